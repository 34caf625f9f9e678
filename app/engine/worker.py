"""The thread of one model: continuous batching.

Each turn of its loop takes in new programs, collects what all running programs wait for, computes
it together, and lets each program go on with its results. A program joins and leaves between two
turns, and a turn is bounded in tokens, so that nobody waits long for anybody else.
"""

import threading
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any

import structlog

from app.engine.cache import PrefixCache
from app.engine.job import Job
from app.engine.limits import Limits
from app.engine.reading import Reading
from app.engine.reading_ahead import Programs, ReadingAhead
from app.engine.stats import Stats
from app.engine.turns import Turns
from app.errors import BusyError, NotReadyError
from models.forward import Forward, Pass
from models.language_model import LanguageModel

_STEP_TOKENS = 512  # computed together: some 10 ms of a shipped model, 17 of 33,278 words
_CACHED_STEPS = 64  # a program whose passes are all cached lets others go on after so many
_STEPS_AT_ONCE = 8  # and the event loop after so many
_TOKENS_AT_ONCE = 32  # computed in the event loop, in a step
_SHORT = 0.0005  # seconds of a step that the event loop has time for
_TURN = 0.003  # seconds after which a turn of the event loop leaves everything to the thread
_MOST_PATIENCE = 0.0005  # seconds that the event loop gives the thread to let go
_MOST_WAIT = 60  # seconds; nobody is told to come back later than this

log = structlog.get_logger()


class RetiredError(Exception):
    """A worker whose model was replaced has ended, having had nothing to do."""


class Worker:
    """Runs the programs of one model, side by side, in a thread of its own."""

    def __init__(self, model: LanguageModel, limits: Limits) -> None:
        """Start the thread."""
        self.model, self.stats = model, Stats()
        self._limits = limits
        self._cache = PrefixCache(limits.cache_bytes, self.stats.cache)
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()  # over the counts of items, which two threads change
        self._items = 0
        self._rate, self._ended, self._rated = 100.0, 0, time.monotonic()  # items a second, lately
        self._closing = self._retiring = self._retired = self._somebody_left = False
        # What follows belongs to whoever holds this: the thread, but while it has nothing to do.
        self._busy = threading.Lock()
        self._turn_ends: float | None = None  # of the event loop, in which it runs programs
        self._knocking = False  # somebody else wants it
        self._ahead = ReadingAhead()
        self._turns = Turns()
        self._active: list[Job] = []
        self._running = 0
        self._small_step = float("inf")  # seconds that the last one of few tokens took
        self._crowded = False  # not everything that was wanted fitted into the last step
        self._settled: list[tuple[Job, Any, BaseException | None]] = []
        name = f"model-{model.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn; called by the event loop.

        Raises:
            BusyError: There is no room for its items.
            NotReadyError: The worker is closing.
            RetiredError: It has ended because its model was replaced.
        """
        with self._lock:
            if self._retired:
                raise RetiredError
            if self._closing:
                raise NotReadyError("The service is shutting down.")
            if self._items and self._items + job.items > self._limits.queue_items:
                self.stats.rejected += 1
                wait = min(_MOST_WAIT, 1 + int(self._items / self._rate))
                raise BusyError(f"The queue of {self._limits.queue_items} items is full.", wait)
            if not self._items:  # of idle times the rate tells nothing
                self._ended, self._rated = 0, time.monotonic()
            self._items += job.items
        # With nothing to do the thread is just about to let go.
        if job.small and self._has_time(job) and self._hold():
            try:
                self._answer_at_once(job)
            finally:
                self._busy.release()
            if job.running:
                self._inbox.put(None)  # to go on with it
        else:
            self._inbox.put(job)

    def read_ahead(self, programs: Programs) -> None:
        """Let programs run, if there is nothing to do now, nor for a moment.

        Called by the event loop, where the last call alone counts.
        """
        if self._items:
            self._ahead.expect_nothing()
        else:
            self._ahead.expect(programs, lambda: not self._items, lambda: self._inbox.put(None))

    def _hold(self) -> bool:
        """Take what belongs to the thread, if it has nothing to do or is just about to let go."""
        self._knocking = True
        try:
            return self._busy.acquire(timeout=0.0 if self._active else _MOST_PATIENCE)
        finally:
            self._knocking = False

    def _answer_at_once(self, job: Job) -> None:
        """Run a program as far as short steps go, without a change of threads, which costs more."""
        self._turns.add(job)
        self.stats.queued += job.items
        self._admit(_STEPS_AT_ONCE)
        try:
            while job.running and self._is_short() and self._has_time(job):
                self._step()
        except BaseException as error:
            self._fail_all(error)
        self._active = [job for job in self._active if job.running]
        settled, self._settled = self._settled, []
        _settle(settled)

    def _has_time(self, job: Job) -> bool:
        """Return whether this turn of the event loop may go on with what takes no thread."""
        now = time.perf_counter()
        if self._turn_ends is None:
            self._turn_ends = now + _TURN
            job.loop.call_soon(self._end_turn)
        return now < self._turn_ends

    def _end_turn(self) -> None:
        self._turn_ends = None

    def _is_short(self) -> bool:
        """Return whether the next step of all takes no longer than a change of threads or two."""
        readings = [reading for job in self._active for reading in job.readings]
        waiting = [reading.rest for reading in readings if reading.result is None]
        return self._small_step < _SHORT and sum(waiting) <= _TOKENS_AT_ONCE

    def drop(self, job: Job) -> None:
        """Let a job end at its next step, or without a step: nobody waits for it any more."""
        job.dropped = self._somebody_left = True

    def close(self) -> None:
        """End all programs at their next step, and the thread."""
        with self._lock:
            self._closing = True
        self._inbox.put(None)

    def retire(self) -> None:
        """Let all programs come to their end, and then the thread, which frees what it kept."""
        with self._lock:
            self._retiring = True
        self._inbox.put(None)

    def _may_retire(self) -> bool:
        """Return whether this is the end; from then on no program is taken."""
        with self._lock:
            if not self._items:
                self._closing = self._retired = True
            return self._closing

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def _run(self) -> None:
        self._busy.acquire()
        while not self._closing and not (self._retiring and self._may_retire()):
            try:
                self._receive()
                self._admit()
                self._step()
            except BaseException as error:
                self._fail_all(error)
            self._active = [job for job in self._active if job.running]
            self._deliver()
        self._receive()
        while (waiting := self._turns.take()) is not None:
            self._active.append(waiting)
        for job in self._active:
            self._finish(job, None, NotReadyError("The service is shutting down."))
        self._deliver()
        if self._retired:  # the service goes on, and needs the room
            self._active = []
            self._ahead.clear()
            self._cache.clear()

    def _fail_all(self, error: BaseException) -> None:
        """End what runs because of a bug of ours: nobody may wait for an answer for ever."""
        log.error("bug", error=type(error).__name__, thread=threading.current_thread().name)
        for job in self._active:
            if job.running:
                self._finish(job, None, RuntimeError(type(error).__name__))

    def _receive(self) -> None:
        """Take in new jobs; wait for one if there is nothing else to do."""
        idle = not self._active and not self._turns and not self._closing
        while idle and self._ahead and not self._knocking and self._inbox.empty():
            self._ahead.step(self.model, self._cache, self.stats)
        try:
            while True:
                if idle:
                    self._busy.release()
                    arrived = self._inbox.get()
                    self._busy.acquire()
                    idle = False
                else:
                    arrived = self._inbox.get_nowait()
                if arrived is not None:
                    self._turns.add(arrived)
                    self.stats.queued += arrived.items
        except Empty:
            return

    def _admit(self, steps: int = _CACHED_STEPS) -> None:
        """Start waiting programs as long as there is room beside those that run."""
        if self._somebody_left:
            self._somebody_left = False
            for job in self._turns.drop():
                self.stats.queued -= job.items
                self._forget(job)
        while self._running < self._limits.running_items:
            next_job = self._turns.take()
            if next_job is None:
                return
            self._start(next_job, steps)

    def _start(self, job: Job, steps: int) -> None:
        self.stats.queued -= job.items
        if job.dropped:  # since `_admit` looked
            self._forget(job)
            return
        self._running += job.items
        self.stats.running = self._running
        job.running = True
        self._active.append(job)
        self._advance(job, None, steps)

    def _forget(self, job: Job) -> None:
        """Close a job that was never started."""
        self._turns.leave(job)
        self._close(job)
        self.stats.dropped += 1

    def _step(self) -> None:
        """Compute what the running programs wait for, and let them go on."""
        for job in self._active:
            if job.running and job.dropped:
                self._finish(job, None, None)
        self._active = [job for job in self._active if job.running]
        if self._crowded:  # who has had least comes first
            self._active.sort(key=self._turns.precedence)
        work = list(self._pieces())
        if work:
            started = time.perf_counter()
            passes = self._compute(work)
            tokens = sum(len(piece.token_ids) for _, _, piece in work)
            seconds = time.perf_counter() - started
            self.stats.computed(len(work), tokens, seconds)
            if tokens <= _TOKENS_AT_ONCE:
                self._small_step = seconds
            for (job, reading, piece), result in zip(work, passes, strict=True):
                if not job.running:  # another of its passes failed
                    continue
                if isinstance(result, BaseException):
                    self._finish(job, None, result)
                    continue
                reading.take(piece, result)
                self._turns.charge(job, len(piece.token_ids))
        for job in self._active:
            if job.running:
                results = [reading.result for reading in job.readings]
                if None not in results:
                    self._advance(job, results)  # type: ignore[arg-type]

    def _pieces(self) -> Iterator[tuple[Job, Reading, Forward]]:
        tokens = 0
        self._crowded = False
        for job in self._active:
            for reading in job.readings:
                if reading.result is None:
                    if tokens >= _STEP_TOKENS:
                        self._crowded = True
                        return
                    piece = reading.piece()
                    tokens += len(piece.token_ids)
                    yield job, reading, piece

    def _compute(self, work: list[tuple[Job, Reading, Forward]]) -> list[Pass] | list[Any]:
        """Compute together; if that fails, one by one, so that only those at fault fail."""
        try:
            return self.model.compute([piece for _, _, piece in work])
        except Exception as error:
            if len(work) == 1:
                return [error]
            return [self._compute([one])[0] for one in work]

    def _advance(self, job: Job, passes: list[Pass] | None, steps: int = _CACHED_STEPS) -> None:
        """Let a program go on until it waits for something that must be computed."""
        try:
            for _ in range(steps):
                forwards = job.program.send(passes)  # type: ignore[arg-type]
                job.readings = [Reading(f, self._cache, self.stats.cache) for f in forwards]
                results = [reading.result for reading in job.readings]
                if None in results:
                    return
                passes = results  # type: ignore[assignment]
        except StopIteration as finished:
            self._finish(job, finished.value, None)
        except Exception as error:
            self._finish(job, None, error)
        except BaseException as error:  # libraries in Rust panic with these
            self._finish(job, None, RuntimeError(type(error).__name__))

    def _finish(self, job: Job, result: Any, error: BaseException | None) -> None:
        """Take a job that runs out of the engine."""
        if job.running:
            self._running -= job.items
            self.stats.running = self._running
        job.running = False
        self._turns.leave(job)
        self._close(job)
        if job.dropped:
            self.stats.dropped += 1
        elif error is not None:
            self.stats.failed += 1
        else:
            self.stats.finished += 1
        self._settled.append((job, result, error))

    def _close(self, job: Job) -> None:
        """End the program, whose states are freed, and give up its place in the queue."""
        job.program.close()
        job.readings = []
        with self._lock:
            self._items -= job.items
        job.ended = True
        self._ended += job.items
        if (elapsed := time.monotonic() - self._rated) > 1:
            self._rate, self._ended, self._rated = self._ended / elapsed, 0, self._rated + elapsed

    def _deliver(self) -> None:
        """Hand all outcomes of this turn to their event loops, waking each once."""
        settled, self._settled = self._settled, []
        for loop in {job.loop for job, _, _ in settled}:
            mine = [outcome for outcome in settled if outcome[0].loop is loop]
            try:
                loop.call_soon_threadsafe(_settle, mine)
            except RuntimeError:  # the loop has ended, and with it everybody who waited
                continue


def _settle(outcomes: list[tuple[Job, Any, BaseException | None]]) -> None:
    for job, result, error in outcomes:
        job.settle(result, error)
