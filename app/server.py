"""The process: listens, reloads its models on SIGHUP, and goes in good order."""

import asyncio
import gc
import os
import resource
import signal
import sys
import time
from socket import socket
from types import FrameType
from typing import NoReturn

import structlog
import uvicorn

from app.application import create_app
from app.keys import load_keys
from app.listening import Connections, Listener
from app.logs import configure_logging
from app.protocol import ConnectionBounds, protocol
from app.settings import Settings
from app.siblings import Siblings
from app.telemetry import configured_tracing
from app.workers import Supervisor, bind

# Seconds after which a thread that computes in Python lets the others go on: the event loop and a
# model's thread wait for each other many times in a request.
_SWITCH = 0.0005
_OTHER_FILES = 256  # than connections: libraries, logs, models while they are read

log = structlog.get_logger()


class Server(uvicorn.Server):
    """Goes on listening after SIGTERM, /ready being 503, until no request is in progress."""

    def __init__(self, settings: Settings, siblings: Siblings | None = None) -> None:
        """Listen to nothing yet."""
        self._settings, self._siblings = settings, siblings
        self._app = create_app(settings, siblings, configured_tracing(os.environ))
        self._reload_wanted = False
        self._reload: asyncio.Task[None] | None = None
        self._listener: Listener | None = None
        bounds = ConnectionBounds(
            connections=settings.max_connections,
            head_seconds=settings.head_seconds,
            body_seconds=settings.body_seconds,
            send_seconds=settings.send_seconds,
        )
        super().__init__(
            uvicorn.Config(
                self._app,
                host=settings.host,
                port=settings.port,
                loop="uvloop",
                http=protocol(bounds),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                # Said in full: uvicorn would trust the addresses of an environment variable.
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=settings.trusted_proxies,
                lifespan="on",
            )
        )

    def run(self, sockets: list[socket] | None = None) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reloads the models, also if it comes early."""
        signal.signal(signal.SIGHUP, self._want_reload)
        super().run(sockets)

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen, and be there for the other workers."""
        if self._siblings is None:
            await super().startup(sockets)
            return
        connections = self.server_state.connections = Connections(self._siblings)
        await super().startup([])
        if not self.should_exit:
            self._siblings.start(self._app.state.metrics, self._be_orphaned)
            self._listener = Listener(
                sockets or (), self._siblings, connections, self._make_connection
            )
            self._listener.start()

    def _make_connection(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def on_tick(self, counter: int) -> bool:
        """Do what signals asked for; ten times a second."""
        registry = self._app.state.registry
        idle = self._reload is None or self._reload.done()
        if self._reload_wanted and idle and registry.loaded:
            self._reload_wanted = False
            self._reload = asyncio.create_task(self._app.state.reloading.all())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; what is being loaded is the last."""
        self._app.state.registry.draining = True
        super().handle_exit(sig, frame)

    def _want_reload(self, number: int, frame: FrameType | None) -> None:
        self._reload_wanted = True

    def _be_orphaned(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Drain, then close; what is in progress is cut short at the limit."""
        self._app.state.registry.draining = True
        started = time.monotonic()
        while not self.force_exit:
            elapsed = time.monotonic() - started
            idle = not self.server_state.tasks and elapsed >= self._settings.drain_seconds
            if idle or elapsed >= self._settings.shutdown_seconds:
                break
            await asyncio.sleep(0.05)
        if self.server_state.tasks:
            # Programs that are still running end at their next step, and their clients hear why.
            closing = asyncio.ensure_future(self._app.state.driver.close())
            await asyncio.wait({closing}, timeout=2)
        remaining = self._settings.shutdown_seconds - (time.monotonic() - started)
        self.config.timeout_graceful_shutdown = max(1, int(remaining))
        if self._listener is not None:
            await self._listener.stop()
        await super().shutdown(sockets)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, which end the process with status 0."""
    configure_logging()
    # uvicorn raises the signal again at its end; without a handler of ours it would kill us.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH)
    _allow_files(settings.max_connections + _OTHER_FILES)
    if settings.workers > 1:
        _serve_with_workers(settings)
        return
    server = Server(settings)
    _collect_seldom()
    server.run()


def _serve_with_workers(settings: Settings) -> None:
    load_keys(settings)  # raises what each worker would, while the command line can still say it
    sockets = bind(settings.host, settings.port)
    port = sockets[0].getsockname()[1]
    log.info("serving", host=settings.host, port=port, workers=settings.workers)

    def work(siblings: Siblings, sockets: list[socket]) -> None:
        Server(settings, siblings).run(sockets)

    _collect_seldom()
    Supervisor(settings.workers, work, shutdown_seconds=settings.shutdown_seconds).run(sockets)


def _collect_seldom() -> None:
    """Let the collector of cycles, of which requests leave few, take little of their time.

    All that has been imported stays: looked through again and again, it would make some answers
    wait a fifth of a second.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # by default 700, 10, 10: a tenth of the time under load


def _allow_files(count: int) -> None:
    """Let this process open as many files, connections among them, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
