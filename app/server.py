"""The process: listens, and goes in good order."""

import asyncio
import gc
import signal
import sys
import time
from socket import socket
from types import FrameType
from typing import NoReturn

import uvicorn

from app.application import create_app
from app.logs import configure_logging
from app.protocol import Protocol
from app.settings import Settings

# Seconds after which a thread that computes in Python lets the others go on: the event loop and a
# model's thread wait for each other many times in a request.
_SWITCH = 0.0005


class Server(uvicorn.Server):
    """Goes on listening after SIGTERM, /ready being 503, until no request is in progress."""

    def __init__(self, settings: Settings) -> None:
        """Listen to nothing yet."""
        self._settings = settings
        self._app = create_app(settings)
        super().__init__(
            uvicorn.Config(
                self._app,
                host=settings.host,
                port=settings.port,
                loop="uvloop",
                http=Protocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
            )
        )

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
        await super().shutdown(sockets)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, which end the process with status 0."""
    configure_logging()
    # uvicorn raises the signal again at its end; without a handler of ours it would kill us.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    sys.setswitchinterval(_SWITCH)
    server = Server(settings)
    # All that has been imported stays: looked through again and again by the collector, it would
    # make some answers wait a fifth of a second.
    gc.freeze()
    server.run()


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
