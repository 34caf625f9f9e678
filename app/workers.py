"""Several processes that serve one port, and the parent that keeps them running.

The parent binds the port, imports everything once, and forks: so a worker starts in the time that
its models take to load, shares what was imported, and takes connections from the one queue that all
share, of which nothing is lost when it is killed. It listens only once it can answer.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from app.siblings import Shared, Siblings

Work = Callable[[Siblings, list[socket.socket]], None]

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds before a worker that has died is replaced
_LONG_LIFE = 30.0  # seconds after which a worker that dies is replaced at once again
_GRACE = 5.0  # seconds beyond its limit until a worker is killed

log = structlog.get_logger()


@dataclass
class _Place:
    """Of one worker.

    Attributes:
        pid: 0 while nobody has it.
        started: When its worker was, on the monotonic clock.
        ended: How many workers had it before.
        due: When a worker is to be started.
        pause: Seconds until the next is started, should it die soon.
    """

    pid: int = 0
    started: float = 0.0
    ended: int = 0
    due: float = 0.0
    pause: float = _FIRST_PAUSE


class Supervisor:
    """The parent. Single-threaded; its signals wait until it asks for them."""

    def __init__(self, workers: int, work: Work, *, shutdown_seconds: float) -> None:
        """Start nothing yet.

        Args:
            workers: How many processes, at least 1.
            work: What each does: serves the sockets until SIGTERM.
            shutdown_seconds: Within which a worker ends after SIGTERM.
        """
        self._work, self._shutdown_seconds = work, shutdown_seconds
        self._shared = Shared(workers)
        self._places = [_Place() for _ in range(workers)]
        self._stopping = 0.0  # when all are to have ended, on the monotonic clock
        self._served = False  # any worker, ever

    def run(self, sockets: list[socket.socket]) -> None:
        """Keep the workers running until SIGTERM or SIGINT; return when all have ended.

        Raises:
            SystemExit: Each of them ended before any served, and so would the next ones.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while True:
            now = time.monotonic()
            for index, place in enumerate(self._places):
                if not place.pid and not self._stopping and now >= place.due:
                    self._start(index, place, sockets)
            received = signal.sigtimedwait(_SIGNALS, self._idle())
            if received is not None:
                self._take(received.si_signo)
            self._reap()
            if self._stopping and not any(place.pid for place in self._places):
                return
            if self._fails():
                log.error("no worker can serve", reason="each ended before any did")
                self._send(signal.SIGKILL)
                raise SystemExit(1)
            if self._stopping and time.monotonic() > self._stopping:
                log.error("workers killed", reason="they did not end in time")
                self._send(signal.SIGKILL)

    def _fails(self) -> bool:
        """Return whether a worker of each place has ended, and none ever served."""
        slots = self._shared.slots
        self._served = self._served or any(map(slots.is_alive, range(slots.count)))
        ended = all(place.ended for place in self._places)
        return ended and not self._served and not self._stopping

    def _idle(self) -> float:
        """Return how many seconds may pass before something is due."""
        now = time.monotonic()
        due = [place.due for place in self._places if not place.pid and not self._stopping]
        due += [self._stopping + 0.1] if self._stopping else []
        return max(0.0, min(due) - now) if due else 60.0

    def _take(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._send(signal.SIGHUP)
        elif number in (signal.SIGTERM, signal.SIGINT):
            # A second time says that nothing is worth waiting for, as SIGINT says to a worker.
            self._send(signal.SIGINT if self._stopping else signal.SIGTERM)
            if not self._stopping:
                self._stopping = time.monotonic() + self._shutdown_seconds + _GRACE

    def _send(self, number: int) -> None:
        for place in self._places:
            if place.pid:
                os.kill(place.pid, number)

    def _start(self, index: int, place: _Place, sockets: list[socket.socket]) -> None:
        pid = os.fork()
        if not pid:
            self._be_worker(index, sockets)
        if place.started:
            self._shared.slots.count_restart(index)
        place.pid, place.started = pid, time.monotonic()
        log.info("worker started", worker=index, pid=pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for index, place in enumerate(self._places):
                if place.pid == pid:
                    self._ended(index, place, os.waitstatus_to_exitcode(status))

    def _ended(self, index: int, place: _Place, status: int) -> None:
        self._served |= self._shared.slots.is_alive(index)
        self._shared.slots.set_alive(index, False)
        now = time.monotonic()
        lived, pid, place.pid = now - place.started, place.pid, 0
        place.ended += 1
        if self._stopping:
            return
        if lived >= _LONG_LIFE:
            place.pause = _FIRST_PAUSE
        place.due = now + place.pause
        log.error("worker ended", worker=index, pid=pid, exit_status=status, restart_in=place.pause)
        place.pause = min(_LONGEST_PAUSE, 2 * place.pause)

    def _be_worker(self, index: int, sockets: list[socket.socket]) -> None:
        """Work, and never return."""
        status = 1
        try:
            # A terminal's Ctrl-C is for the parent, which tells us.
            os.setpgrp()
            os.close(self._shared.alive[1])
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._work(Siblings(self._shared, index), sockets)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            log.exception("worker failed", worker=index)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def bind(host: str, port: int) -> list[socket.socket]:
    """Return sockets bound to every address of ``host``, to be listened to by workers.

    Raises:
        OSError: An address is taken, or none of ours.
    """
    sockets: list[socket.socket] = []
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    for family, kind, protocol, _, address in dict.fromkeys(found):
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Where any free port will do, it is the same on all addresses.
        taken = sockets[0].getsockname()[1] if sockets else port
        listener.bind((address[0], taken, *address[2:]))
        sockets.append(listener)
    return sockets
