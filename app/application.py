"""The service as an ASGI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app import errors
from app.engine.engine import Engine
from app.middleware import RequestMiddleware
from app.registry import Registry
from app.routes.questions import question_routes
from app.routes.service import service_routes
from app.routes.tokens import token_routes
from app.schemas.responses import Problem
from app.settings import Settings

_DESCRIPTION = """\
Text prediction by language models trained on your own text: what word comes next, how likely a
sentence is, how it goes on.

Log-probabilities are natural logarithms. `null` means "not scored". Every answer carries
`X-Request-ID`, the client's own where it sends one. Errors are problem details (RFC 9457).
"""


def create_app(settings: Settings) -> FastAPI:
    """Return the service; its models are loaded when it starts, while it answers /health."""
    registry = Registry(settings)
    driver = Engine(settings.limits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(asyncio.to_thread(registry.load))
        yield
        registry.draining = True
        await driver.close()
        await loading

    app = FastAPI(
        title="nextword",
        version=version("nextword"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.registry, app.state.driver = registry, driver
    app.add_middleware(RequestMiddleware)
    errors.install(app)
    app.include_router(question_routes(settings, registry, driver))
    app.include_router(token_routes(settings, registry))
    app.include_router(service_routes(registry))
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
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
        app.openapi_schema = schema
    return app.openapi_schema
