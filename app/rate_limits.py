"""How much one client may ask for in a minute.

A minute begins with a client's first request, and `Retry-After` says when it ends. Counts are kept
in memory, of this process alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from app.driver import Driver
from app.errors import BusyError, RateLimitedError
from models.forward import Program
from models.language_model import LanguageModel

R = TypeVar("R")

_MINUTE = 60.0  # seconds


@dataclass(slots=True)
class Window:
    """A minute of one client.

    Attributes:
        ends: When, by a clock that nobody sets.
        spent: So far.
    """

    ends: float
    spent: int = 0


class RateLimit:
    """So many a minute for each client."""

    def __init__(self, per_minute: int, what: str) -> None:
        """Allow ``per_minute`` of ``what``."""
        self._per_minute, self._what = per_minute, what
        self._windows: dict[str, Window] = {}
        self._swept = monotonic()

    def spend(self, client: str, amount: int = 1) -> Callable[[], None]:
        """Count ``amount`` for a client; one that is more than a minute's takes a whole minute's.

        Returns:
            What gives it back, into the same minute.

        Raises:
            RateLimitedError: The client has too little left; nothing is counted.
        """
        now = monotonic()
        self._sweep(now)
        window = self._windows.get(client)
        if window is None or window.ends <= now:
            window = self._windows[client] = Window(now + _MINUTE)
        cost = min(amount, self._per_minute)
        if window.spent + cost > self._per_minute:
            raise RateLimitedError(
                f"No more than {self._per_minute} {self._what} a minute.",
                retry_after=max(1, math.ceil(window.ends - now)),
            )
        window.spent += cost

        def give_back() -> None:
            window.spent -= cost

        return give_back

    def _sweep(self, now: float) -> None:
        """Once a minute, forget the clients whose minute has ended."""
        if now - self._swept >= _MINUTE:
            self._swept = now
            self._windows = {c: w for c, w in self._windows.items() if w.ends > now}

    def driver(self, driver: Driver) -> Driver:
        """Return a driver that counts programs' items before it lets them into ``driver``."""
        return LimitedDriver(driver, self)


class LimitedDriver:
    """A `Driver` that counts the items of each client's programs before it lets them in."""

    def __init__(self, driver: Driver, limit: RateLimit) -> None:
        """Stand in front of ``driver``."""
        self._driver, self._limit = driver, limit

    async def run(
        self,
        model: LanguageModel,
        program: Program[R],
        *,
        items: int = 1,
        client: str = "",
        small: bool = False,
    ) -> R:
        """Return the program's result, whose items count unless the queue is full; see `Driver`."""
        give_back = self._limit.spend(client, items)
        try:
            return await self._driver.run(model, program, items=items, client=client, small=small)
        except BusyError:
            give_back()
            raise

    def read_ahead(
        self, model: LanguageModel, programs: Callable[[], Sequence[Program[object]]]
    ) -> None:
        """Run programs that nobody asked for, and nobody is counted for; see `Driver`."""
        self._driver.read_ahead(model, programs)

    async def close(self) -> None:
        """End all programs."""
        await self._driver.close()
