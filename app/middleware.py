"""What happens to every request: an id, a line in the log, a measurement, and an answer always."""

import random
import re
import time
import traceback

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import problem_response
from app.metrics import Metrics, known_method
from app.openai_errors import in_their_words

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
# What was answered to one is no business of the next; a route that knows better says so itself.
_NO_STORE = (b"cache-control", b"no-store")


class RequestMiddleware:
    """The outermost layer. What users write never reaches the log."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Wrap ``app``."""
        self._app, self._metrics = app, metrics
        # Bound once: an unbound logger is put together anew for every line.
        self._log = structlog.get_logger().bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of HTTP."""
        started = time.perf_counter()
        self._metrics.in_progress += 1
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_NO_STORE)
                headers += _SECURITY
                headers.append((b"x-request-id", request_id.encode()))
            await send(message)

        answer = in_their_words(scope, send_with_id)
        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            # The message of an exception may quote what a user wrote; its type and place do not.
            places = [
                f"{frame.filename}:{frame.lineno} in {frame.name}"
                for frame in traceback.extract_tb(error.__traceback__)
            ]
            self._log.error("bug", error=type(error).__name__, places=places, request_id=request_id)
            if not status:
                response = problem_response(error, request_id)
                await response(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", None)
            self._metrics.in_progress -= 1
            self._metrics.observe(route, scope["method"], status, seconds)
            key = scope["state"].get("key")
            self._log.info(
                "request",
                method=known_method(scope["method"]),
                route=route,
                status=status,
                milliseconds=round(1000 * seconds, 2),
                request_id=request_id,
                **({} if key is None else {"key": key.name}),
            )


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    # To tell requests apart, not to keep anything secret: no system call for each of them.
    return f"{random.getrandbits(128):032x}"
