"""The service as an ASGI application."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app import errors
from app.cors import allow_origins
from app.direct import DirectRoutes
from app.driver import Driver
from app.engine.engine import Engine
from app.gate import Gate, describe_refusals
from app.keys import Keyring, load_keys
from app.metrics import Metrics
from app.middleware import RequestMiddleware
from app.registry import Registry
from app.reloading import Reloading
from app.routes.aac import aac_routes
from app.routes.admin import admin_routes
from app.routes.bulk import bulk_routes
from app.routes.openai import openai_routes
from app.routes.questions import question_routes
from app.routes.service import service_routes
from app.routes.tokens import token_routes
from app.schemas.responses import Problem
from app.settings import Settings
from app.siblings import Siblings
from app.telemetry import Tracing

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from app.rate_limits import RateLimit

_DESCRIPTION = """\
Text prediction by language models trained on your own text: what word comes next, how likely a
sentence is, how it goes on.

Log-probabilities are natural logarithms. `null` means "not scored". Every answer carries
`X-Request-ID`, the client's own where it sends one. Errors are problem details (RFC 9457).
"""


class Service(FastAPI):
    """FastAPI behind what happens to every request, and behind the short way past it."""

    def build_front(
        self,
        routes: Sequence[BaseRoute],
        metrics: Metrics,
        settings: Settings,
        keyring: Keyring,
        tracing: Tracing | None,
    ) -> None:
        """Let requests in, those for ``routes`` by the short way where they need no more."""
        inner: ASGIApp = DirectRoutes(super().__call__, routes)
        if keyring or settings.allowed_hosts or settings.requests_per_minute:
            requests = _rate_limit(settings.requests_per_minute, "requests")
            inner = Gate(inner, settings, keyring, requests)
        inner = allow_origins(inner, settings.cors_origins)
        self._front: ASGIApp = RequestMiddleware(inner, metrics)
        if tracing is not None:
            self._front = tracing.wrap(self._front)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's beginning and end."""
        if scope["type"] == "http":
            await self._front(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    settings: Settings, siblings: Siblings | None = None, tracing: Tracing | None = None
) -> Service:
    """Return the service; its models are loaded when it starts, while it answers /health.

    With ``siblings``, other processes that serve the same port, it starts once they are loaded;
    with ``tracing``, each request leaves a span.

    Raises:
        KeysError: API keys are configured in a way that cannot be used.
    """
    registry, metrics, keyring = Registry(settings), Metrics(), load_keys(settings)
    driver = Engine(settings.limits())
    metrics.watch(lambda: _engine_metrics(driver))
    if tracing is not None:
        driver.watch = tracing.observe
    reloading = Reloading(registry, driver, siblings)
    metrics.watch(reloading.metrics)
    asked: Driver = driver
    if (items := _rate_limit(settings.items_per_minute, "items")) is not None:
        asked = items.driver(driver)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(asyncio.to_thread(registry.load))
        if siblings is not None:
            await asyncio.wait({loading})
        yield
        registry.draining = True
        await reloading.close()
        await driver.close()
        await loading
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    app = Service(
        title="nextword",
        version=version("nextword"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.registry, app.state.driver, app.state.metrics = registry, driver, metrics
    app.state.reloading = reloading
    errors.install(app)
    routers = (
        question_routes(settings, registry, asked),
        bulk_routes(settings, registry, asked),
        token_routes(settings, registry),
        service_routes(registry, metrics, siblings),
        admin_routes(registry, reloading),
        openai_routes(settings, registry, asked),
        aac_routes(settings, registry, asked),
    )
    for router in routers:
        app.include_router(router)
    routes = [route for router in routers for route in router.routes]
    app.build_front(routes, metrics, settings, keyring, tracing)
    app.openapi = lambda: _openapi(app, settings, keys=bool(keyring))  # type: ignore[method-assign]
    return app


def _rate_limit(per_minute: int, what: str) -> "RateLimit | None":
    if not per_minute:
        return None
    from app.rate_limits import RateLimit  # where it is wanted: it loads a library

    return RateLimit(per_minute, what)


def _engine_metrics(engine: Engine) -> Iterable["Metric"]:
    from app.engine.metrics import engine_metrics  # for the first who asks: it loads a library

    return engine_metrics(engine.stats())


def _openapi(app: FastAPI, settings: Settings, *, keys: bool) -> dict[str, Any]:
    """Return FastAPI's description with the schema that all problems refer to."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"] |= {**problem.pop("$defs"), "Problem": problem}
        describe_refusals(schema, settings, keys=keys)
        app.openapi_schema = schema
    return app.openapi_schema
