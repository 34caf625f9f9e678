"""How many processors this process may keep busy."""

import os
from math import ceil
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # version 2: "max 100000" or "150000 100000", microseconds


def available_threads(quota: Path = _QUOTA, *, workers: int = 1) -> int:
    """Return the processors of this process: its affinity, the container's quota, at least 1.

    Several server processes on one machine share them: ``workers`` that one parent has started,
    or, where that is 1, as many as somebody else says that there are (``WEB_CONCURRENCY``).
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        limit, period = quota.read_text().split()
        if limit != "max":
            processors = min(processors, ceil(int(limit) / int(period)))
    except (OSError, ValueError):
        pass  # no such limit here
    others = os.environ.get("WEB_CONCURRENCY", "")
    if workers == 1 and others.isdecimal():
        workers = max(1, int(others))
    return max(1, processors // workers)
