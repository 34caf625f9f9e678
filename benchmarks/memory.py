"""How much memory a process takes over time, and whether it grows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of a process, MB (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/{pid}/status has no VmRSS")


@dataclass
class Memory:
    """Samples of a process' memory.

    Attributes:
        seconds: When each was taken.
        megabytes: What each found.
    """

    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def take(self, pids: int | Sequence[int], seconds: float) -> float:
        """Take a sample, of several processes their sum, and return it."""
        self.seconds.append(seconds)
        every = [pids] if isinstance(pids, int) else pids
        self.megabytes.append(sum(map(resident_megabytes, every)))
        return self.megabytes[-1]

    def growth(self) -> tuple[float, float]:
        """Return what the second half grows by, MB, and as a share, by a straight line."""
        half = len(self.seconds) // 2
        xs, ys = self.seconds[half:], self.megabytes[half:]
        if len(xs) < 2:
            return 0.0, 0.0
        rise = slope(xs, ys) * (xs[-1] - xs[0])
        return rise, rise / (sum(ys) / len(ys))


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of the line of least squares."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
