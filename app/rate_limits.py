"""How much one client may ask for in a minute.

A minute begins with a client's first request, and `Retry-After` says when it ends. Counts are kept
in memory, of this process alone.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from app.driver import Driver
from app.errors import RateLimitedError
from models.forward import Program
from models.language_model import LanguageModel

R = TypeVar("R")


class RateLimit:
    """So many a minute for each client."""

    def __init__(self, per_minute: int, what: str) -> None:
        """Allow ``per_minute`` of ``what``."""
        self._per_minute, self._what = per_minute, what
        self._item = RateLimitItemPerMinute(per_minute)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def spend(self, client: str, amount: int = 1) -> None:
        """Count ``amount`` for a client; one that is more than a minute's takes a whole minute's.

        Raises:
            RateLimitedError: The client has too little left; nothing is counted.
        """
        cost = min(amount, self._per_minute)
        # Nothing else runs between the two: neither waits for anything where it all is in memory.
        if await self._limiter.test(self._item, client, cost=cost):
            await self._limiter.hit(self._item, client, cost=cost)
            return
        reset, _ = await self._limiter.get_window_stats(self._item, client)
        raise RateLimitedError(
            f"No more than {self._per_minute} {self._what} a minute.",
            retry_after=max(1, math.ceil(reset - time.time())),
        )

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
        """Return the program's result; see `Driver`."""
        await self._limit.spend(client, items)
        return await self._driver.run(model, program, items=items, client=client, small=small)

    def read_ahead(
        self, model: LanguageModel, programs: Callable[[], Sequence[Program[object]]]
    ) -> None:
        """Run programs that nobody asked for, and nobody is counted for; see `Driver`."""
        self._driver.read_ahead(model, programs)

    async def close(self) -> None:
        """End all programs."""
        await self._driver.close()
