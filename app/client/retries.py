"""When to ask again."""

import random
from dataclasses import dataclass

from app.client.errors import ClientError, ServiceError, UnreachableError

AGAIN = (429, 503)  # statuses of a service that may have room, or be ready, later

_FIRST_WAIT = 0.25  # seconds; twice as long each time


@dataclass(frozen=True)
class Retries:
    """When to ask again.

    Attributes:
        most: Tries after the first; 0 for none.
        longest_wait: Seconds; a service that wants to be left alone for longer is not asked again.
    """

    most: int = 4
    longest_wait: float = 30.0

    def wait(self, failure: ClientError, tried: int) -> float | None:
        """Return seconds until the next try, never fewer than the service asks for; None: give up.

        Args:
            failure: What came of the last try.
            tried: How many tries there were before it.
        """
        if tried >= self.most:
            return None
        wait = _FIRST_WAIT * 2.0**tried
        match failure:
            case ServiceError(status=status, retry_after=retry_after) if status in AGAIN:
                wait = max(wait, retry_after) if retry_after is not None else wait
            case UnreachableError(again=True):
                pass
            case _:
                return None
        # Those who were sent away together don't come back together.
        return None if wait > self.longest_wait else wait * random.uniform(1.0, 1.25)
