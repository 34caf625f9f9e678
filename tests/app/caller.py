"""A client of the bare ASGI application that can go away."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import orjson

from app.application import create_app


class Caller:
    """Sends one POST request as a server would, and collects what comes back."""

    def __init__(
        self,
        app: Any,
        path: str,
        body: dict[str, Any],
        *,
        raw: bytes | None = None,
        content_type: bytes = b"application/json",
        client: str = "127.0.0.1",
    ) -> None:
        self.status: int | None = None
        self.chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self._body: bytes | None = orjson.dumps(body) if raw is None else raw
        self._gone = asyncio.Event()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"content-type", content_type)],
            "client": (client, 1),
            "server": ("127.0.0.1", 80),
        }
        self.call = asyncio.ensure_future(app(scope, self._receive, self._send))

    def leave(self) -> None:
        """Close the connection."""
        self._gone.set()

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message.get("body"):
            self.chunks.put_nowait(message["body"])


@asynccontextmanager
async def ready_app(settings):
    """The application on a running loop, its models loaded."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        async with asyncio.timeout(20):
            while not app.state.registry.names():
                await asyncio.sleep(0.01)
        yield app
