"""Stopping on request: the first Ctrl-C ends a run behind its step, a second one at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class TrainingStopped(Exception):
    """A run was stopped on request; its state is saved.

    Attributes:
        step: Optimizer steps done.
        steps: Optimizer steps in all.
    """

    def __init__(self, step: int, steps: int) -> None:
        """Store where the run stands."""
        super().__init__(f"stopped at step {step} of {steps}")
        self.step, self.steps = step, steps


class StopRequest:
    """Notes SIGINT and SIGTERM while it is entered, instead of dying of them.

    An exception in the middle of a step would leave weights, moments and step count of different
    steps; a flag that is read between two steps does not.
    """

    def __init__(self) -> None:
        """Nothing is requested yet."""
        self._requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self._requested

    def __enter__(self) -> Self:
        """Take the signals over; outside the main thread, where that is impossible, do nothing."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
