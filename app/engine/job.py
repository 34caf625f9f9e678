"""A program on its way through the engine."""

import asyncio
from typing import Any

from app.engine.reading import Reading
from models.forward import Program


class Job:
    """One program, and who waits for it.

    Attributes:
        program: Runs in the model's thread, and only there.
        items: Sentences or sequences that it works on.
        small: A step of it takes little time where all its passes are cached.
        start: Tokens that others of its client had had when it came, as far as it counts.
        client: Who asks.
        future: Of the event loop that waits.
        readings: The passes that the program waits for.
        tokens: Tokens computed for it so far.
        running: The program was started and has not come to its end.
        ended: It has, or never will be started.
        dropped: Nobody waits any more; the model's thread closes the program at its next step.
    """

    __slots__ = (
        "client",
        "dropped",
        "ended",
        "future",
        "items",
        "loop",
        "program",
        "readings",
        "running",
        "small",
        "start",
        "tokens",
    )

    def __init__(self, program: Program[Any], items: int, client: str, *, small: bool) -> None:
        """Wait in the running event loop."""
        self.program, self.items, self.client, self.small = program, items, client, small
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.readings: list[Reading] = []
        self.start = self.tokens = 0
        self.running = self.ended = self.dropped = False

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Hand over the outcome; runs in the event loop."""
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)
