"""A long, mixed load on the service: nothing may fail, and its memory must stay flat.

::

    python -m benchmarks.soak --minutes 60
    python -m benchmarks.soak --minutes 0 --abandon 200

People type, ask about new contexts, score, rank and generate, streamed and not; some hang up in
the middle of a long answer, and some make mistakes, for which they must get their 4xx. With
``--abandon``, many clients then hang up at the same moment, and the next request is timed.
The exit status is 1 where anything failed or the memory grew.
"""

import argparse
import asyncio
import gc
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.abandonment import abandon
from benchmarks.connection import Connection
from benchmarks.memory import Memory
from benchmarks.mixture import Task, tasks
from benchmarks.report import draw_soak, machine
from benchmarks.rows import percentile
from benchmarks.service import Service, nextword_service

PATIENCE = 60  # seconds that an answer may take
MINUTE = 60.0
HEADER = (
    "| minute | requests | failures | p50 ms | p99 ms | RSS MB |\n|---:|---:|---:|---:|---:|---:|"
)


@dataclass
class Soak:
    """What has happened so far.

    Attributes:
        memory: Of the server.
        failures: What went wrong.
        minutes: A line of the table each: minute, requests, failures, p50, p99 and memory.
        requests: How many of each kind.
    """

    memory: Memory = field(default_factory=Memory)
    failures: list[str] = field(default_factory=list)
    minutes: list[tuple[float, int, int, float, float, float]] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)
    _latencies: list[float] = field(default_factory=list)
    _reported: int = 0

    async def run(self, service: Service, *, minutes: float, rate: float, clients: int) -> None:
        """Put the service under load for so long, and print a line a minute."""
        began = time.perf_counter()
        ended = began + minutes * MINUTE
        turn = clients / rate  # seconds between the requests of one client
        every = min(MINUTE, minutes * MINUTE / 10)
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                start = began + number / rate
                group.create_task(self._client(service.port, number, start, ended, turn))
            print(HEADER, flush=True)
            line = began + every
            while (now := time.perf_counter()) < ended:
                await asyncio.sleep(min(every / 12, max(0.0, ended - now)))
                self.memory.take(service.pid, time.perf_counter() - began)
                if time.perf_counter() >= min(line, ended):
                    line += every
                    self._report((time.perf_counter() - began) / MINUTE)

    async def _client(self, port: int, seed: int, start: float, ended: float, turn: float) -> None:
        connection: Connection | None = None
        for number, task in enumerate(tasks(seed)):
            at = start + number * turn
            if at >= ended:
                break
            # Who is behind does not make up for it: the load is bounded, not pressed.
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            if time.perf_counter() >= ended:
                break
            try:
                if connection is None or not connection.usable:
                    connection = await Connection.open(port)
                await self._one(task, connection)
            except Exception as error:
                self.failures.append(f"{task.kind}: {error!r}")
                if len(self.failures) <= 10:
                    print(f"FAILED {self.failures[-1][:400]}", file=sys.stderr, flush=True)
                connection = None
        if connection is not None:
            await connection.close()

    async def _one(self, task: Task, connection: Connection) -> None:
        began = time.perf_counter()
        self.requests[task.kind] = self.requests.get(task.kind, 0) + 1
        async with asyncio.timeout(PATIENCE):
            await task.run(connection)
        if task.stay is None:
            self._latencies.append(time.perf_counter() - began)

    def _report(self, minute: float) -> None:
        latencies, self._latencies = self._latencies or [0.0], []
        failures = len(self.failures) - self._reported
        self._reported = len(self.failures)
        p50, p99 = (percentile(latencies, share) * 1e3 for share in (0.5, 0.99))
        memory = self.memory.megabytes[-1]
        self.minutes.append((minute, len(latencies), failures, p50, p99, memory))
        print(
            f"| {minute:.1f} | {len(latencies)} | {failures} | {p50:.1f} | {p99:.1f} "
            f"| {memory:.1f} |",
            flush=True,
        )
        gc.collect()


def main() -> None:
    """Start the service, put it under load, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60, help="of mixed load")
    parser.add_argument("--rate", type=float, default=40, help="requests a second, at most")
    parser.add_argument("--clients", type=int, default=16, help="connections")
    parser.add_argument("--abandon", type=int, default=0, help="generations to hang up on")
    parser.add_argument(
        "--growth",
        type=float,
        default=0.01,
        help="share of the memory that the second half may grow by and be flat",
    )
    parser.add_argument("--models", type=Path, default=Path("checkpoints"), help="to serve")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder to fill")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    soak = Soak()
    values: dict[str, object] = {"about": {**machine(), "rate": arguments.rate}}
    good = True
    with nextword_service(arguments.models, out / "soak.log") as service:
        try:
            if arguments.minutes:
                work = soak.run(
                    service,
                    minutes=arguments.minutes,
                    rate=arguments.rate,
                    clients=arguments.clients,
                )
                asyncio.run(work)
        finally:
            if soak.minutes:
                good = _verdict(soak, arguments.growth)
                draw_soak(soak.memory, soak.minutes, out / "soak.png")
                values |= {"minutes": soak.minutes, "memory": asdict(soak.memory)}
                values |= {"failures": soak.failures[:100], "requests": soak.requests}
        if arguments.abandon:
            result = asyncio.run(abandon(service.port, arguments.abandon))
            print(
                f"\n{arguments.abandon} long generations abandoned after a second, {result.over} "
                f"of them over by then. One request, ms: {result.idle * 1e3:.1f} on the idle "
                f"server (at most {result.highest * 1e3:.1f}), {result.at_once * 1e3:.1f} right "
                f"after all had hung up, {result.later * 1e3:.1f} later."
            )
            values["abandoned"] = {"count": arguments.abandon, **asdict(result)}
    (out / "soak.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if good else 1)


def _verdict(soak: Soak, most: float) -> bool:
    """Print whether all went well."""
    rise, share = soak.memory.growth()
    flat = share <= most
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(soak.requests.items()))
    print(f"\n{sum(soak.requests.values()):,} requests ({kinds}), {len(soak.failures)} failures.")
    print(
        f"Memory over the second half: {rise:+.1f} MB ({share:+.2%}): "
        f"{'flat' if flat else 'GROWING'}."
    )
    return flat and not soak.failures


if __name__ == "__main__":
    main()
