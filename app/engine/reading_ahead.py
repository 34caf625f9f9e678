"""Reading for questions that nobody has asked yet, while there is nothing else to do."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from app.engine.cache import PrefixCache
from app.engine.reading import Reading
from app.engine.stats import CacheStats, Stats
from models.errors import InvalidRequestError
from models.forward import Pass, Program
from models.language_model import LanguageModel

_PAUSE = 0.005  # seconds without a keystroke: more will follow, from people; programs don't wait
_MOST = 64  # programs that nobody waits for, yet

Programs = Callable[[], Sequence[Program[object]]]


class ReadingAhead:
    """The programs of one model that nobody waits for, the likeliest last."""

    def __init__(self) -> None:
        """Plan nothing yet."""
        self._waiting: deque[tuple[Program[object], list[Pass] | None]] = deque(maxlen=_MOST)
        self._loop: asyncio.AbstractEventLoop | None = None  # in which a timer runs
        self._pause_ends = 0.0
        self._likely: Programs = tuple

    def __bool__(self) -> bool:
        """Return whether there is something to read."""
        return bool(self._waiting)

    def expect(
        self, programs: Programs, idle: Callable[[], bool], begin: Callable[[], None]
    ) -> None:
        """Read for ``programs``, if for a moment nobody asks for anything.

        Called by the event loop, always with the same ``idle`` and ``begin``; of programs those of
        the last call alone count.

        Args:
            programs: What to run, the likeliest first; asked when the moment has passed.
            idle: Whether there is nothing else to do then.
            begin: Called then, if there is something to read. Neither is kept any longer.
        """
        loop = asyncio.get_running_loop()
        self._likely, self._pause_ends = programs, loop.time() + _PAUSE
        if self._loop is not loop:  # there is no timer, or only one of a loop of before
            self._loop = loop
            loop.call_later(_PAUSE, self._plan, loop, idle, begin)

    def expect_nothing(self) -> None:
        """Forget the last call; called by the event loop."""
        self._likely = tuple

    def _plan(
        self,
        loop: asyncio.AbstractEventLoop,
        idle: Callable[[], bool],
        begin: Callable[[], None],
    ) -> None:
        if self._loop is not loop:
            return
        if (left := self._pause_ends - loop.time()) > 0:  # somebody asked meanwhile
            loop.call_later(left, self._plan, loop, idle, begin)
            return
        programs, self._likely, self._loop = self._likely, tuple, None
        if idle():
            self._waiting.extend((program, None) for program in reversed(programs()))
            if self._waiting:
                begin()

    def step(self, model: LanguageModel, cache: PrefixCache, stats: Stats) -> None:
        """Let the likeliest program take a step; called by whom the cache belongs to."""
        program, passes = self._waiting.pop()
        try:
            forwards = program.send(passes)  # type: ignore[arg-type]
            readings = [Reading(f, cache, CacheStats()) for f in forwards]
            while unread := [reading for reading in readings if reading.result is None]:
                pieces = [reading.piece() for reading in unread]
                for reading, piece, result in zip(
                    unread, pieces, model.compute(pieces), strict=True
                ):
                    reading.take(piece, result)
                    stats.tokens_ahead += len(piece.token_ids)
        except (StopIteration, InvalidRequestError):
            return
        self._waiting.append((program, [reading.result for reading in readings]))  # type: ignore[misc]

    def clear(self) -> None:
        """Forget all programs."""
        self._waiting.clear()
