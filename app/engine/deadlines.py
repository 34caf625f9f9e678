"""When programs must be over."""

import asyncio

from app.engine.job import Job
from app.errors import DeadlineError


class Deadlines:
    """Of the jobs of one event loop. All may take equally long, so that one timer is enough.

    Attributes:
        loop: Whose they are.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Let each job take ``seconds`` at most."""
        self.loop, self._seconds = loop, seconds
        self._due: dict[Job, float] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, job: Job) -> None:
        """Count a job's time from now on."""
        self._due[job] = self.loop.time() + self._seconds
        if self._timer is None:
            self._timer = self.loop.call_later(self._seconds, self._expire)

    def end(self, job: Job) -> None:
        """Forget a job."""
        self._due.pop(job, None)

    def stop(self) -> None:
        """Forget all jobs."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        """End the jobs whose time is over, and come back when the next one's is."""
        self._timer = None
        while self._due:
            job, due = next(iter(self._due.items()))
            if (left := due - self.loop.time()) > 0:
                self._timer = self.loop.call_later(left, self._expire)
                return
            del self._due[job]
            seconds = f"{self._seconds:g} seconds"
            job.settle(None, DeadlineError(f"The answer was not there within {seconds}."))
