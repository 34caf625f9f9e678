"""What the engine counts: written by its threads, read by whoever asks for metrics."""

from bisect import bisect_left
from dataclasses import dataclass, field

BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128)  # passes computed together


@dataclass
class CacheStats:
    """Of one model's cache of states.

    Attributes:
        hit_tokens: Tokens that did not have to be read again.
        hits: Passes that found at least one of their tokens read.
        misses: Passes that found none.
        entries: States kept now.
        bytes: Memory they take, bytes.
        evictions: States dropped to make room.
    """

    hit_tokens: int = 0
    hits: int = 0
    misses: int = 0
    entries: int = 0
    bytes: int = 0
    evictions: int = 0


@dataclass
class Stats:
    """Of one model.

    Attributes:
        cache: Of its states.
        steps: Times that passes were computed together.
        tokens: Tokens computed.
        seconds: Time spent computing.
        batches: How many steps had up to each of `BATCH_BOUNDS` passes, and more.
        passes: Passes computed.
        queued: Items waiting now.
        running: Items of running programs now.
        finished: Programs that came to their end.
        failed: Programs that raised.
        dropped: Programs that nobody waited for any more.
        rejected: Programs that found no room.
        tokens_ahead: Tokens read before anybody asked for them.
    """

    cache: CacheStats = field(default_factory=CacheStats)
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    batches: list[int] = field(default_factory=lambda: [0] * (len(BATCH_BOUNDS) + 1))
    passes: int = 0
    queued: int = 0
    running: int = 0
    finished: int = 0
    failed: int = 0
    dropped: int = 0
    rejected: int = 0
    tokens_ahead: int = 0

    def plus(self, other: "Stats") -> "Stats":
        """Return the counts of both together."""
        sums = {
            name: count + getattr(other, name)
            for name, count in vars(self).items()
            if name not in ("cache", "batches")
        }
        both = vars(self.cache).items()
        cache = CacheStats(**{name: n + getattr(other.cache, name) for name, n in both})
        batches = [mine + theirs for mine, theirs in zip(self.batches, other.batches, strict=True)]
        return Stats(cache=cache, batches=batches, **sums)

    def computed(self, passes: int, tokens: int, seconds: float) -> None:
        """Count one step."""
        self.steps += 1
        self.passes += passes
        self.tokens += tokens
        self.seconds += seconds
        self.batches[bisect_left(BATCH_BOUNDS, passes)] += 1
