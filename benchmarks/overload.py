"""Four times as much as the queue holds: who finds room is answered in time, the rest hear 429.

::

    python -m benchmarks.overload
    python -m benchmarks.overload --minutes 10 --workers 2

Every client asks again as soon as it has its answer; one that is turned away waits for a moment,
far shorter than `Retry-After` asks for. The exit status is 1 where any answer was neither 200 nor
429, where the slowest percent of the answers took longer than is allowed, or the memory grew.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.connection import Connection
from benchmarks.memory import Memory
from benchmarks.options import end_in_order
from benchmarks.report import machine
from benchmarks.requests import HEALTH, post
from benchmarks.rows import percentile
from benchmarks.sentences import everyday_sentences
from benchmarks.service import nextword_service

ITEMS = 8  # texts or continuations of each request
TIMES = 4  # as much as there is room for
PAUSE = 0.1  # seconds, on average, that a client waits who was turned away
PATIENCE = 120.0  # seconds after which an answer will never come
EVERY = 0.5  # seconds between two looks at memory and /health


@dataclass
class Overload:
    """What came of it.

    Attributes:
        statuses: How many answers had each; 0 for none.
        latencies: Of the answers with 200, seconds.
        health: Of /health meanwhile, seconds.
        memory: Of the server's processes together.
        lasted: From the first request to the last answer, seconds.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    lasted: float = 0.0

    async def run(
        self,
        port: int,
        pids: Sequence[int],
        requests: Sequence[bytes],
        *,
        clients: int,
        seconds: float,
    ) -> None:
        """Keep so many clients asking for so long."""
        began = time.perf_counter()
        until = began + seconds
        async with asyncio.TaskGroup() as group:
            for seed in range(clients):
                group.create_task(self._client(port, requests, seed, until))
            group.create_task(self._watch(port, pids, began, until))
        self.lasted = time.perf_counter() - began

    async def _client(self, port: int, requests: Sequence[bytes], seed: int, until: float) -> None:
        draw = random.Random(seed)
        connection: Connection | None = None
        while (asked := time.perf_counter()) < until:
            try:
                async with asyncio.timeout(PATIENCE):
                    if connection is None or not connection.usable:
                        connection = await Connection.open(port)
                    answer = await connection.ask(draw.choice(requests))
            except (OSError, EOFError, TimeoutError):
                self.statuses[0] += 1
                connection = None
                await asyncio.sleep(PAUSE)
                continue
            self.statuses[answer.status] += 1
            if answer.status == 200:
                self.latencies.append(time.perf_counter() - asked)
            else:
                await asyncio.sleep(draw.uniform(0.5, 1.5) * PAUSE)
        if connection is not None:
            await connection.close()

    async def _watch(self, port: int, pids: Sequence[int], began: float, until: float) -> None:
        while time.perf_counter() < until:
            asked = time.perf_counter()
            connection = await Connection.open(port)
            if (await connection.ask(HEALTH)).status == 200:
                self.health.append(time.perf_counter() - asked)
            await connection.close()
            self.memory.take(pids, time.perf_counter() - began)
            await asyncio.sleep(EVERY)

    def faults(self, *, most_seconds: float, most_growth: float) -> list[str]:
        """Return what is not as it has to be.

        Args:
            most_seconds: That 99 in 100 of the answers may take.
            most_growth: Share that the memory may grow by in the second half.
        """
        faults = [
            f"{count} answers with status {status or 'none'}"
            for status, count in self.statuses.items()
            if status not in (200, 429)
        ]
        if not self.latencies or not self.statuses[429]:
            faults.append("nobody was answered" if not self.latencies else "nobody was turned away")
        elif (p99 := percentile(self.latencies, 0.99)) > most_seconds:
            faults.append(f"p99 of the answers is {p99:.1f} s, above {most_seconds:g} s")
        if (growth := self.memory.growth()[1]) > most_growth:
            faults.append(f"memory grew by {growth:.1%}")
        return faults


def overload_requests(count: int, *, seed: int = 1) -> list[bytes]:
    """Return requests of `ITEMS` items each: half of them scores, half continuations."""
    requests = []
    for number in range(count):
        texts = everyday_sentences(ITEMS, seed=seed * count + number)
        begun = " ".join(texts[0].split()[:4])
        sampled = {"strategy": "sample", "n": ITEMS, "max_tokens": 16, "seed": number}
        requests.append(post("/score", {"text": texts}))
        requests.append(post("/generate", {"text": begun, **sampled}))
    return requests


def processes(pid: int) -> list[int]:
    """Return the process and its children (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def main() -> None:
    """Start the service, ask for too much, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=2, help="of overload")
    parser.add_argument("--queue", type=int, default=256, help="items that a queue holds")
    parser.add_argument("--workers", type=int, default=1, help="processes of the service")
    parser.add_argument(
        "--drains",
        type=float,
        default=8,
        help="p99 at most, as a multiple of the time in which a full queue is answered",
    )
    parser.add_argument(
        "--growth", type=float, default=0.02, help="share that the second half may grow by"
    )
    parser.add_argument("--models", type=Path, default=Path("checkpoints"), help="to serve")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder to fill")
    arguments = parser.parse_args()
    end_in_order()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    # Caches small enough to be full by half time, so that what still grows then is a leak.
    settings = {
        "queue_items": str(arguments.queue),
        "workers": str(arguments.workers),
        "cache_megabytes": "16",
    }
    found = Overload()
    clients = TIMES * arguments.queue * arguments.workers // ITEMS
    with nextword_service(arguments.models, out / "overload.log", **settings) as service:
        work = found.run(
            service.port,
            processes(service.pid),
            overload_requests(500),
            clients=clients,
            seconds=60 * arguments.minutes,
        )
        asyncio.run(work)
    # Of the load, not of the machine: a faster one, or one less busy, has less to wait for.
    drain = arguments.queue * arguments.workers / max(1, ITEMS * found.statuses[200]) * found.lasted
    faults = found.faults(most_seconds=arguments.drains * drain, most_growth=arguments.growth)
    _report(found, clients)
    print(f"a full queue is answered in {drain * 1e3:,.0f} ms")
    values = {"about": machine(), "clients": clients, "faults": faults, **vars(found)}
    values |= {"memory": vars(found.memory)}
    (out / "overload.json").write_text(json.dumps(values) + "\n", encoding="utf-8")
    print("\n".join(faults) or "As it has to be.")
    sys.exit(1 if faults else 0)


def _report(found: Overload, clients: int) -> None:
    statuses = ", ".join(f"{n:,} x {status}" for status, n in sorted(found.statuses.items()))
    print(f"{clients} clients, {found.lasted:.0f} s: {statuses}")
    for name, latencies in (("answers", found.latencies), ("/health", found.health)):
        p50, p99 = (percentile(latencies or [0.0], share) for share in (0.5, 0.99))
        print(f"{name}: p50 {p50 * 1e3:,.0f} ms, p99 {p99 * 1e3:,.0f} ms")
    rise, share = found.memory.growth()
    memory = found.memory.megabytes
    print(f"memory: {memory[0]:.0f} MB first, {memory[-1]:.0f} MB last; ", end="")
    print(f"over the second half {rise:+.1f} MB ({share:+.2%})")


if __name__ == "__main__":
    main()
