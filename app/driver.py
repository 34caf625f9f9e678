"""What routes know of whatever runs their programs."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from models.forward import Program
from models.language_model import LanguageModel

R = TypeVar("R")


class Driver(Protocol):
    """Something that runs programs away from the event loop."""

    async def run(
        self,
        model: LanguageModel,
        program: Program[R],
        *,
        items: int = 1,
        client: str = "",
        small: bool = False,
    ) -> R:
        """Return the program's result; when cancelled, the program ends at its next step.

        Args:
            model: Computes the passes.
            program: What to run.
            items: Sentences or sequences that it works on, for which the queue has bounded room.
            client: Who asks; clients take turns.
            small: The program takes well under a millisecond where its passes are known already,
                so that it may run in the event loop's own thread.

        Raises:
            BusyError: The queue has no room for so many items.
            DeadlineError: The program took too long.
            NotReadyError: The service is shutting down.
        """

    def read_ahead(
        self, model: LanguageModel, programs: Callable[[], Sequence[Program[object]]]
    ) -> None:
        """Soon run what ``programs`` returns, the first ones first, if there is nothing else to do.

        Nobody waits for them: what is read for them spares reading when it is asked for. Where
        there is something else to do, or more is to be read ahead, they may never be made.
        """

    async def close(self) -> None:
        """End all programs."""
