"""How much the engine takes on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of one model.

    Attributes:
        queue_items: Sentences and sequences that may wait or run; a request that is alone may have
            more.
        running_items: How many of them run at a time.
        cache_bytes: For states that were read, bytes.
        deadline: Most time a request may take, waiting included, seconds.
    """

    queue_items: int = 2048
    running_items: int = 512
    cache_bytes: int = 256 << 20
    deadline: float = 60.0
