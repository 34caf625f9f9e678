"""How much one client may ask for in a minute.

A minute begins with a client's first request, and `Retry-After` says when it ends. Counts are kept
in memory, of this process alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from limits import RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

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


class Windows(Storage):
    """Where the library counts: a look-up a request, however many clients there are.

    Its own storage in memory looks through all clients, again and again, and its clock may be set.
    """

    STORAGE_SCHEME = None
    base_exceptions = ValueError

    def __init__(self) -> None:
        """Count nothing yet."""
        super().__init__()
        self.windows: dict[str, Window] = {}
        self._swept = monotonic()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, in a window of ``expiry`` seconds from its first count on."""
        self._sweep()
        window = self.window(key)
        if window is None:
            window = self.windows[key] = Window(monotonic() + expiry)
        window.spent += amount
        return window.spent

    def window(self, key: str) -> Window | None:
        """Return the window that is open for a key, if one is."""
        window = self.windows.get(key)
        return window if window is not None and window.ends > monotonic() else None

    def get(self, key: str) -> int:
        """Return what is counted."""
        window = self.window(key)
        return 0 if window is None else window.spent

    def get_expiry(self, key: str) -> float:
        """Return when the window ends, by `time.monotonic`."""
        window = self.window(key)
        return monotonic() if window is None else window.ends

    def check(self) -> bool:
        """Return True: memory is always there."""
        return True

    def reset(self) -> int:
        """Forget all."""
        forgotten = len(self.windows)
        self.windows.clear()
        return forgotten

    def clear(self, key: str) -> None:
        """Forget a key."""
        self.windows.pop(key, None)

    def _sweep(self) -> None:
        """Once a minute, forget the windows that have ended."""
        now = monotonic()
        if now - self._swept >= _MINUTE:
            self._swept = now
            self.windows = {key: w for key, w in self.windows.items() if w.ends > now}


class RateLimit:
    """So many a minute for each client."""

    def __init__(self, per_minute: int, what: str) -> None:
        """Allow ``per_minute`` of ``what``."""
        self._per_minute, self._what = per_minute, what
        self._item = RateLimitItemPerMinute(per_minute)
        self._windows = Windows()
        self._limiter = FixedWindowRateLimiter(self._windows)

    def spend(self, client: str, amount: int = 1) -> Callable[[], None]:
        """Count ``amount`` for a client; one that is more than a minute's takes a whole minute's.

        Returns:
            What gives it back, into the same minute.

        Raises:
            RateLimitedError: The client has too little left; nothing is counted.
        """
        cost = min(amount, self._per_minute)
        if not self._limiter.test(self._item, client, cost=cost):
            ends = self._limiter.get_window_stats(self._item, client).reset_time
            raise RateLimitedError(
                f"No more than {self._per_minute} {self._what} a minute.",
                retry_after=max(1, math.ceil(ends - monotonic())),
            )
        self._limiter.hit(self._item, client, cost=cost)
        window = self._windows.window(self._item.key_for(client))

        def give_back() -> None:
            if window is not None:
                window.spent -= cost

        return give_back

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
