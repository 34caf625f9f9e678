"""The one interface to whatever computes a network."""

from collections.abc import Sequence
from typing import Protocol

from models.forward import Forward, Pass


class Backend(Protocol):
    """Computes the forward passes of one network.

    What a pass returns does not depend on what it is computed together with; in torch but for the
    last digits of float32.

    Attributes:
        precision: What the large matrices are multiplied in: ``float32`` or ``int8``.
    """

    precision: str

    def compute(self, forwards: Sequence[Forward]) -> list[Pass]:
        """Run passes together, in one thread's time; return them in the order asked for.

        A state that is given must come from this backend.
        """
