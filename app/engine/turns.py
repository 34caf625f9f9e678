"""Whose turn it is: clients share the model by what they have had of it.

Start-time fair queueing (Goyal et al. 1996) with tokens as the measure: the client that was served
least goes first, and one that comes new, or again, begins where the least served stands.
"""

from collections import deque

from app.engine.job import Job


class Turns:
    """Waiting jobs, by client."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: dict[str, deque[Job]] = {}
        self._served: dict[str, float] = {}  # tokens, of clients with a job waiting or running
        self._jobs: dict[str, set[Job]] = {}

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return sum(map(len, self._waiting.values()))

    def add(self, job: Job) -> None:
        """Let a job wait behind those of its client."""
        if job.client not in self._served:
            self._served[job.client] = min(self._served.values(), default=0.0)
        others = self._jobs.setdefault(job.client, set())
        job.start = min((other.start + other.tokens for other in others), default=0)
        others.add(job)
        self._waiting.setdefault(job.client, deque()).append(job)

    def take(self) -> Job | None:
        """Return the next job, which runs from now on; None where none waits."""
        if not self._waiting:
            return None
        client = min(self._waiting, key=self._served.__getitem__)
        jobs = self._waiting[client]
        job = jobs.popleft()
        if not jobs:
            del self._waiting[client]
        return job

    def precedence(self, job: Job) -> tuple[float, int]:
        """Return what running jobs are sorted by: their client, then themselves, in the same way.

        So of one client, who may stand for many people, a short request that comes late is not
        held up by long ones, nor a long one for ever by many short.
        """
        return self._served[job.client], job.start + job.tokens

    def charge(self, job: Job, tokens: int) -> None:
        """Count what was computed for a running job."""
        self._served[job.client] += tokens
        job.tokens += tokens

    def leave(self, job: Job) -> None:
        """Forget a job that ran; a client without jobs is forgotten with its last."""
        self._jobs[job.client].discard(job)
        if not self._jobs[job.client]:
            del self._jobs[job.client], self._served[job.client]

    def drop(self) -> list[Job]:
        """Take out the waiting jobs that nobody waits for."""
        dropped = [job for jobs in self._waiting.values() for job in jobs if job.dropped]
        for job in dropped:
            jobs = self._waiting[job.client]
            jobs.remove(job)
            if not jobs:
                del self._waiting[job.client]
        return dropped
