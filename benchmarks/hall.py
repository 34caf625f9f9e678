"""Sides of the measurements of serving: servers, and the load that each is put under."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count, repeat
from pathlib import Path

from benchmarks import requests, sizes
from benchmarks.bench import Bench
from benchmarks.load import Answers, Check, clients, run_clients
from benchmarks.rows import Figure, Side, fastest, percentile
from benchmarks.service import (
    Service,
    ask,
    installed_environment,
    nextword_service,
    peer_service,
)
from benchmarks.worker import MissingError

WARM_UP = 0.5  # seconds of every measurement that do not count
HEALTH_EVERY = 0.02  # seconds


def _holds(part: bytes, times: int = 1) -> Check:
    """Return a check that a body holds ``part`` so often."""
    return lambda body: body.count(part) == times


LISTED = _holds(b'"predictions":[')  # for some beginnings of words there is nothing to list
FOUND = _holds(b'"predictions":[{"word":"')


@dataclass
class Hall:
    """Where the servers stand.

    Attributes:
        bench: For peers that are measured in processes of their own.
        peers: Python of the peers' environment.
        shipped: Folder of the models that ship.
        default: The default model's name.
        seconds: Of a measurement.
        out: Folder for models and logs.
    """

    bench: Bench
    peers: Path | None
    shipped: Path
    default: str
    seconds: float
    out: Path
    _seeds: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def default_models(self) -> Path:
        """Folder that holds the default model alone."""
        folder = self.out / "models" / "default"
        link = folder / self.default
        folder.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to((self.shipped / self.default).resolve())
        return folder

    def typing_sides(self, stack: ExitStack, clients: int, of: str, pause: float = 0) -> list[Side]:
        """Return our service with the default model, and endpoints that only answer as much.

        Args:
            stack: To close the servers by.
            clients: How many type.
            of: ``p50`` for the median latency in ms, ``rate`` for requests a second.
            pause: Seconds between an answer and the next key.
        """
        log = self.out / "serving.log"
        ours = stack.enter_context(nextword_service(self.default_models, log))
        typed = requests.typing(0, count=1)
        bodies = [ask(ours.port, request).partition(b"\r\n\r\n")[2] for request in typed]
        answer = self.out / "models" / "answer.json"
        answer.write_bytes(sorted(bodies, key=len)[len(bodies) // 2])
        sides = [self.typing("nextword", ours, clients, of, pause)]
        for name, endpoint in (
            ("trivial FastAPI endpoint", "model"),
            ("the same, question unread, bytes ready", "bytes"),
        ):
            service: Service | MissingError
            try:
                service = stack.enter_context(
                    peer_service(
                        self.peers, "constant_server", log, answer=str(answer), endpoint=endpoint
                    )
                )
            except MissingError as error:
                service = error
            sides.append(self.typing(name, service, clients, of, pause))
        return sides

    def typing_to_several(self, stack: ExitStack, clients: int) -> Side:
        """Return our service with the default model and as many processes as it may have threads.

        Args:
            stack: To close the service by.
            clients: How many type.
        """
        count = self.bench.threads
        log = self.out / "serving.log"
        service = stack.enter_context(
            nextword_service(self.default_models, log, workers=str(count))
        )
        return self.typing(f"nextword ({count} processes)", service, clients, "rate")

    def fastest_of_ours(
        self, stack: ExitStack, name: str, side: Callable[[str, Service], Side]
    ) -> Side:
        """Return our service with as many processes as suit a load best, as peers may have too.

        Args:
            stack: To close the services by.
            name: Of the side; the number of processes is appended.
            side: Makes the side of a service.
        """
        candidates = []
        for processes in dict.fromkeys((1, self.bench.threads)):
            service = self._random_service(stack, processes)
            candidates.append(side(f"{name} (processes: {processes})", service))
        return fastest(candidates, more_is_better=True)

    def _random_service(self, stack: ExitStack, processes: int) -> Service:
        """Start our service with random weights, in the sizes that the peers have too."""
        folder = self.out / "models" / "random"
        if not folder.exists():
            made = folder.with_name("random.part")
            shutil.rmtree(made, ignore_errors=True)
            module = [sys.executable, "-m", "benchmarks.random_checkpoint", str(made / "random")]
            subprocess.run(module, check=True, timeout=300)
            made.rename(folder)
        log = self.out / "serving.log"
        return stack.enter_context(nextword_service(folder, log, workers=str(processes)))

    def typing(
        self,
        name: str,
        service: Service | MissingError,
        clients: int,
        of: str,
        pause: float = 0,
    ) -> Side:
        """Return a side that people type to.

        Args:
            name: As the table shows it.
            service: That answers.
            clients: How many type.
            of: ``p50`` for the median latency in ms, ``rate`` for requests a second.
            pause: Seconds between an answer and the next key.
        """
        if isinstance(service, MissingError):
            return Side(name, None, missing=str(service))
        sentences = int(
            (self.seconds + WARM_UP) * (20 + 200 / clients)
        )  # of each, more than can be typed
        return Side(name, lambda: self._typed(service, clients, sentences, of, pause))

    def _typed(
        self, service: Service, number: int, sentences: int, of: str, pause: float
    ) -> Figure:
        # Nobody types the sentences of another round or client.
        scripts = [requests.typing(self._seed(), sentences) for _ in range(number)]
        answers, health = self._load(service, scripts, LISTED, pause)
        figure = _figure(answers, self.seconds)
        figure["health p99"] = percentile(health.latencies, 0.99) * 1e3
        value = figure.pop("p50" if of == "p50" else "requests/s")
        return Figure(value, figure)

    def fresh(self, name: str, service: Service) -> Side:
        """Return a side that is asked about contexts that it has never seen."""
        return Side(name, lambda: self._fresh(service))

    def _fresh(self, service: Service) -> Figure:
        # Enough for 5,000 a second.
        each = int(5000 * (self.seconds + WARM_UP) / 64)
        every = requests.fresh(self._seed(), 64 * each)
        scripts = [every[start : start + each] for start in range(0, len(every), each)]
        answers, _ = self._load(service, scripts, FOUND)
        figure = _figure(answers, self.seconds)
        return Figure(figure.pop("requests/s"), figure)

    def fastest_gpt2(self, stack: ExitStack) -> Side:
        """Return the server of transformers, with the threads that suit it best."""
        candidates = []
        most = self.bench.threads
        log, folder = self.out / "serving.log", str(self.out / "models" / "gpt2")
        for processes, workers, threads in ((1, 1, 1), (1, 1, most), (1, most, 1), (most, 1, 1)):
            try:
                service = peer_service(
                    self.peers,
                    "gpt2_server",
                    log,
                    processes=processes,
                    folder=folder,
                    workers=str(workers),
                    threads=str(threads),
                )
            except MissingError as error:
                return Side("transformers behind FastAPI", None, missing=str(error))
            stack.enter_context(service)
            label = f"processes: {processes}, passes side by side: {workers}, threads: {threads}"
            candidates.append(self.fresh(f"transformers behind FastAPI ({label})", service))
        return fastest(candidates, more_is_better=True, turns=2)

    def scoring(self, name: str, service: Service) -> Side:
        """Return a side that scores 32 sentences a request for two clients."""
        check = _holds(b'"scored_tokens":21,', sizes.SENTENCES)

        def measure() -> Figure:
            each = 8 * self.bench.calls
            requests_ = requests.scoring(self._seed(), sizes.SENTENCES, 2 * each)
            scripts = [requests_[:each], requests_[each:]]
            return Figure(_tokens(service, scripts, check, 21 * sizes.SENTENCES))

        return Side(name, measure)

    def generation(self, name: str, service: Service) -> Side:
        """Return a side that writes continuations for 32 clients, two for each."""
        tokens = sizes.GENERATED
        check = _holds(b'"completion_tokens":%d}' % tokens)

        def measure() -> Figure:
            asked = requests.continuations(self._seed(), tokens, 2 * sizes.SEQUENCES)
            scripts = [asked[i :: sizes.SEQUENCES] for i in range(sizes.SEQUENCES)]
            return Figure(_tokens(service, scripts, check, tokens))

        return Side(name, measure)

    def starting(self, name: str, models: Path) -> Side:
        """Return a side that starts our service and stops it again."""

        def measure() -> Figure:
            with nextword_service(models, self.out / "serving.log") as service:
                return Figure(service.seconds_to_ready)

        return Side(name, measure)

    def importing(self, name: str) -> Side:
        """Return a side that imports torch and ends."""

        def measure() -> Figure:
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", "import torch"],
                check=True,
                timeout=120,
                env=installed_environment(),
            )
            return Figure(time.perf_counter() - began)

        return Side(name, measure)

    def _seed(self) -> int:
        return next(self._seeds)

    def _load(
        self, service: Service, scripts: list[list[bytes]], check: Check, pause: float = 0
    ) -> tuple[Answers, Answers]:
        """Put the service under load; return the answers that count, and those of /health."""

        async def work() -> tuple[Answers, Answers]:
            seconds = self.seconds + WARM_UP
            health = clients(
                service.port,
                [repeat(requests.HEALTH)],
                _holds(b"ok"),
                seconds=seconds,
                pause=HEALTH_EVERY,
            )
            load = clients(service.port, scripts, check, seconds=seconds, pause=pause)
            loaded, healthy = await asyncio.gather(load, health)
            return loaded, healthy

        began = time.perf_counter()
        answers, health = run_clients(work())
        if len(answers.latencies) >= sum(map(len, scripts)):
            raise RuntimeError("all requests were used up before the time was over")
        from_, to = began + WARM_UP, began + WARM_UP + self.seconds
        return _between(answers, from_, to), _between(health, from_, to)


def _between(answers: Answers, began: float, ended: float) -> Answers:
    """Return the answers that came in this time."""
    pairs = [
        pair
        for pair in zip(answers.latencies, answers.moments, strict=True)
        if began <= pair[1] < ended
    ]
    return Answers([latency for latency, _ in pairs], [moment for _, moment in pairs])


def _figure(answers: Answers, seconds: float) -> dict[str, float]:
    return {
        "requests/s": len(answers.latencies) / seconds,
        "p50": percentile(answers.latencies, 0.5) * 1e3,
        "p99": percentile(answers.latencies, 0.99) * 1e3,
    }


def _tokens(service: Service, scripts: list[list[bytes]], check: Check, each: int) -> float:
    """Return tokens a second from the first request to the last answer, ``each`` an answer."""
    began = time.perf_counter()
    answers = run_clients(clients(service.port, scripts, check))
    return each * len(answers.latencies) / (max(answers.moments) - began)
