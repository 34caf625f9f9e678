"""Who comes in: the right host, a key, and no more often than is allowed."""

from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Receive, Scope, Send

from app.connection import address
from app.errors import HANDLED, MisdirectedError, problem_response, responses
from app.keys import Keyring, authenticate
from app.openai_errors import CONTENT, PREFIX
from app.settings import Settings

if TYPE_CHECKING:
    from app.rate_limits import RateLimit

# Asked by whoever watches over the service, by its address and without a key.
_ALWAYS_OPEN = frozenset({"/health", "/ready"})
_DOCS = frozenset({"/docs", "/docs/oauth2-redirect", "/openapi.json"})
_METRICS = frozenset({"/metrics"})


class Gate:
    """Stands in front of the application, and refuses by default: what is open is listed."""

    def __init__(
        self, app: ASGIApp, settings: Settings, keyring: Keyring, requests: "RateLimit | None"
    ) -> None:
        """Let those into ``app`` who may, as often as ``requests`` says."""
        self._app, self._keyring = app, keyring
        self._exact, self._endings = _hosts(settings.allowed_hosts)
        self._open = open_paths(settings)
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of HTTP."""
        path = scope["path"]
        if path not in _ALWAYS_OPEN:
            try:
                self._admit(scope, path)
            except HANDLED as error:
                response = problem_response(error, scope["state"]["request_id"])
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope, path: str) -> None:
        host = authorization = api_key = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"x-api-key":
                api_key = value
            elif name == b"host":
                host = value
        if self._exact and not self._is_ours(host):
            raise MisdirectedError("This service does not answer for the host that was asked for.")
        client = address(scope)
        if self._keyring and path not in self._open:
            key = authenticate(self._keyring, authorization, api_key)
            client = f"key:{key.name}"
            scope["state"] |= {"key": key, "client": client}
        if self._requests is not None:
            self._requests.spend(client)

    def _is_ours(self, host: bytes | None) -> bool:
        name = _without_port((host or b"").decode("latin-1").lower())
        return name in self._exact or name.endswith(self._endings)


def open_paths(settings: Settings) -> frozenset[str]:
    """Return the paths that need no key even where there are keys."""
    paths = _ALWAYS_OPEN
    if settings.public_docs:
        paths |= _DOCS
    if settings.public_metrics:
        paths |= _METRICS
    return paths


def describe_refusals(schema: dict[str, Any], settings: Settings, *, keys: bool) -> None:
    """Add to an OpenAPI description how its operations may be refused before they begin."""
    statuses = [401] if keys else []
    statuses += [421] if settings.allowed_hosts else []
    statuses += [429] if settings.requests_per_minute or settings.items_per_minute else []
    refusals = {str(status): answer for status, answer in responses(*statuses).items()}
    if keys:
        schema["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    for path, operations in schema["paths"].items():
        if path in _ALWAYS_OPEN:
            continue
        secured = keys and path not in open_paths(settings)
        theirs = {"content": CONTENT} if path.startswith(PREFIX) else {}
        declared = {s: r | theirs for s, r in refusals.items() if s != "401" or secured}
        for operation in operations.values():
            operation["responses"] |= declared
            if secured:
                operation["security"] = [{"bearer": []}, {"apiKey": []}]


def _hosts(names: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return host names to compare, and endings of those that stand for all below them."""
    hosts = [name.lower() for name in names.replace(",", " ").split()]
    return frozenset(hosts), tuple(host[1:] for host in hosts if host.startswith("*."))


def _without_port(host: str) -> str:
    if host.startswith("["):  # an IPv6 address
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
