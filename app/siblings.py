"""What the worker processes of one service share: their measurements, and short messages.

The parent makes all of it before it starts them, so that a worker that takes a dead one's place
finds everything where it was.
"""

import asyncio
import itertools
import os
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from mmap import mmap
from socket import AF_UNIX, SOCK_DGRAM, socket, socketpair
from struct import Struct
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from app.merging import Family, merge
from app.metrics import Metrics

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Message = dict[str, Any]
Handler = Callable[[Message], Awaitable[Message]]

_HALF = 1 << 19  # bytes; ten times what all routes and a handful of models need
_HEAD = Struct("=QIIQQQ")  # changes so far, length of either half, alive, restarts, connections
_SLOT = _HEAD.size + 2 * _HALF
_MOST_MESSAGE = 1 << 16  # bytes
_PUBLISH_EVERY = 1.0  # seconds; what a killed worker had counted since then is lost
_PATIENCE = 0.5  # seconds for another worker to bring its measurements up to date

log = structlog.get_logger()


class Slots:
    """Memory that all processes see, and a part of it for each worker, which alone writes it.

    A slot has two halves, written by turns, so that whoever reads, and whoever is killed in the
    middle of writing, leaves a whole one. A worker says itself that it is alive, and the parent
    that it is not.
    """

    def __init__(self, count: int) -> None:
        """Make room; memory that is never written is never taken."""
        self.count = count
        self._memory = mmap(-1, count * _SLOT)

    def write(self, index: int, content: bytes) -> None:
        """Replace what worker ``index`` tells; ValueError if it is longer than there is room."""
        if len(content) > _HALF:
            raise ValueError(f"{len(content)} bytes of measurements; there is room for {_HALF}")
        at = index * _SLOT
        changes, *lengths, _, _, _ = _HEAD.unpack_from(self._memory, at)
        half = (changes + 1) % 2
        start = at + _HEAD.size + half * _HALF
        self._memory[start : start + len(content)] = content
        lengths[half] = len(content)
        Struct("=II").pack_into(self._memory, at + 8, *lengths)
        Struct("=Q").pack_into(self._memory, at, changes + 1)  # last: from now on it counts

    def read(self, index: int) -> bytes:
        """Return what worker ``index`` told last, dead or alive; empty if nothing yet."""
        at = index * _SLOT
        while True:
            changes, *lengths, _, _, _ = _HEAD.unpack_from(self._memory, at)
            start = at + _HEAD.size + changes % 2 * _HALF
            content = self._memory[start : start + lengths[changes % 2]]
            if _HEAD.unpack_from(self._memory, at)[0] == changes:
                return content

    def is_alive(self, index: int) -> bool:
        """Return whether worker ``index`` serves."""
        return bool(_HEAD.unpack_from(self._memory, index * _SLOT)[3])

    def set_alive(self, index: int, alive: bool) -> None:
        """Note that worker ``index`` serves, or has ended."""
        Struct("=Q").pack_into(self._memory, index * _SLOT + 16, alive)

    def restarts(self) -> int:
        """Return how many workers took a dead one's place."""
        return sum(_HEAD.unpack_from(self._memory, i * _SLOT)[4] for i in range(self.count))

    def count_restart(self, index: int) -> None:
        """Note that a worker takes the place of a dead one."""
        at = index * _SLOT + 24
        Struct("=Q").pack_into(self._memory, at, 1 + Struct("=Q").unpack_from(self._memory, at)[0])

    def connections(self, index: int) -> int:
        """Return how many connections worker ``index`` has."""
        return int(_HEAD.unpack_from(self._memory, index * _SLOT)[5])

    def set_connections(self, index: int, count: int) -> None:
        """Note how many connections worker ``index`` has; for a moment, 0 may be read."""
        Struct("=Q").pack_into(self._memory, index * _SLOT + 32, count)


class Shared:
    """What the parent makes for its workers.

    Attributes:
        slots: Of their measurements.
        mailboxes: A pair of sockets each: to read from, and for all others to write to.
        alive: A pipe that nobody writes to: at its end, the parent has ended.
    """

    def __init__(self, workers: int) -> None:
        """Make it, for so many workers."""
        self.slots = Slots(workers)
        self.mailboxes = [_mailbox() for _ in range(workers)]
        self.alive = os.pipe()


def _mailbox() -> tuple[socket, socket]:
    pair = socketpair(AF_UNIX, SOCK_DGRAM)
    for end in pair:
        end.setblocking(False)
    return pair


class Siblings:
    """One worker among its siblings; lives in its event loop."""

    def __init__(self, shared: Shared, index: int) -> None:
        """Be worker ``index``."""
        self._shared, self._index = shared, index
        self._slots = shared.slots
        self._handlers: dict[str, Handler] = {}
        self._waiting: dict[int, tuple[set[int], list[Message], asyncio.Event]] = {}
        # From anywhere: an answer that was meant for one whose place this is must match none.
        self._ids = itertools.count(secrets.randbits(48))
        self._tasks: set[asyncio.Task[None]] = set()
        self._metrics: Metrics | None = None
        # What those counted whose place this one takes.
        self._past: list[Family] = []
        if content := self._slots.read(index):
            self._past = merge([(orjson.loads(content), False)])

    def handle(self, kind: str, handler: Handler) -> None:
        """Let ``handler`` answer messages of a kind."""
        self._handlers[kind] = handler

    def start(self, metrics: Metrics, orphaned: Callable[[], None]) -> None:
        """Be there for the others; call ``orphaned`` when the parent has ended."""
        self._metrics = metrics
        self.handle("publish", self._answer_publish)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._shared.mailboxes[self._index][0].fileno(), self._receive)

        def end() -> None:
            loop.remove_reader(self._shared.alive[0])
            orphaned()

        loop.add_reader(self._shared.alive[0], end)
        self._publish_again(loop)
        self._slots.set_alive(self._index, True)

    def tell_connections(self, count: int) -> None:
        """Let the others know how many connections this worker has."""
        self._slots.set_connections(self._index, count)

    def fewest_connections(self) -> int | None:
        """Return the least number of connections that another has; None where nobody serves."""
        others = (index for index in range(self._slots.count) if index != self._index)
        counts = [self._slots.connections(i) for i in others if self._slots.is_alive(i)]
        return min(counts, default=None)

    async def ask(
        self, kind: str, content: Message, *, patience: float, absent: bool = False
    ) -> list[Message]:
        """Return the answers of all others that serve and answer in time.

        Args:
            kind: Which of their handlers is to answer.
            content: For it.
            patience: Seconds to wait for the answers.
            absent: Tell also those that are about to serve, whose answers nobody waits for.
        """
        number = next(self._ids)
        message = {"kind": kind, "from": self._index, "id": number, "content": content}
        asked: set[int] = set()
        for index in range(self._slots.count):
            alive = self._slots.is_alive(index)
            told = (alive or absent) and index != self._index and self._send(index, message)
            if alive and told:
                asked.add(index)
        if not asked:
            return []
        answers: list[Message] = []
        done = asyncio.Event()
        self._waiting[number] = asked, answers, done
        try:
            async with asyncio.timeout(patience):
                while not done.is_set():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.1):
                            await done.wait()
                    asked -= {index for index in asked if not self._slots.is_alive(index)}
                    if not asked:
                        break
        except TimeoutError:
            log.warning("no answer from a worker", kind=kind, workers=sorted(asked))
        finally:
            del self._waiting[number]
        return answers

    async def scrape(self) -> bytes:
        """Return everything that all workers measured, in Prometheus's text format."""
        from prometheus_client import generate_latest
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        self._publish()
        await self.ask("publish", {}, patience=_PATIENCE)
        slots = range(self._slots.count)
        contents = [(self._slots.read(i), self._slots.is_alive(i)) for i in slots]
        families = merge([(orjson.loads(text), alive) for text, alive in contents if text])
        found = [family.metric() for family in families]
        workers = sum(alive for _, alive in contents)
        found.append(GaugeMetricFamily("nextword_workers", "Processes that serve.", workers))
        found.append(
            CounterMetricFamily(
                "nextword_worker_restarts",
                "Processes that took the place of one that had ended.",
                self._slots.restarts(),
            )
        )
        return generate_latest(_Collected(found))

    def _publish_again(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._publish()
        finally:
            loop.call_later(_PUBLISH_EVERY, self._publish_again, loop)

    def _publish(self) -> None:
        assert self._metrics is not None
        mine = [Family.of(metric) for metric in self._metrics.families()]
        families = merge([(self._past, False), (mine, True)])
        self._slots.write(self._index, orjson.dumps(families))

    async def _answer_publish(self, _: Message) -> Message:
        self._publish()
        return {}

    def _send(self, index: int, message: Message) -> bool:
        try:
            self._shared.mailboxes[index][1].send(orjson.dumps(message))
        except OSError:  # its mailbox is full: it has been busy, or stopped, for long
            return False
        return True

    def _receive(self) -> None:
        with suppress(BlockingIOError):
            while True:
                message = orjson.loads(self._shared.mailboxes[self._index][0].recv(_MOST_MESSAGE))
                if "answer" in message:
                    self._take_answer(message)
                else:
                    task = asyncio.ensure_future(self._answer(message))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    def _take_answer(self, message: Message) -> None:
        if (waiting := self._waiting.get(message["id"])) is not None:
            asked, answers, done = waiting
            if message["from"] in asked:
                asked.discard(message["from"])
                answers.append(message["answer"])
            if not asked:
                done.set()

    async def _answer(self, message: Message) -> None:
        answer = await self._handlers[message["kind"]](message["content"])
        reply = {"from": self._index, "id": message["id"], "answer": answer}
        self._send(message["from"], reply)


class _Collected:
    """What `generate_latest` wants: something to collect from."""

    def __init__(self, metrics: Iterable["Metric"]) -> None:
        self._metrics: Collection[Metric] = list(metrics)

    def collect(self) -> Iterable["Metric"]:
        return self._metrics
