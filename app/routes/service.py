"""The service about itself: which models, alive, ready."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.answers import model_answer
from app.direct import DirectRoute
from app.errors import responses
from app.metrics import MEDIA_TYPE, Metrics
from app.registry import Registry
from app.schemas.requests import ModelName
from app.schemas.responses import ModelInfo, ModelList, Readiness, Status
from app.siblings import Siblings
from app.wire import Answer


def service_routes(
    registry: Registry, metrics: Metrics, siblings: Siblings | None = None
) -> APIRouter:
    """Return the routes that ask no model anything."""
    router = APIRouter(tags=["service"], route_class=DirectRoute)

    @router.get("/models", response_model=ModelList, responses=responses(503), summary="All models")
    async def get_models() -> Response:
        """The loaded models."""
        models = [registry.get(name) for name in registry.names()] or [registry.get()]
        return Answer({"models": [model_answer(m, default=registry.is_default(m)) for m in models]})

    @router.get(
        "/models/{name}",
        response_model=ModelInfo,
        responses=responses(404, 422, 503),
        summary="One model",
    )
    async def get_model(
        name: Annotated[ModelName, Path(description="Name of the model.")],
    ) -> Response:
        """One loaded model."""
        model = registry.get(name)
        return Answer(model_answer(model, default=registry.is_default(model)))

    @router.get("/health", response_model=Status, summary="Alive?")
    async def get_health() -> Response:
        """Answers as long as the process does, whatever its models are doing."""
        return Answer({"status": "ok"})

    @router.get("/ready", response_model=Readiness, responses=responses(503), summary="Ready?")
    async def get_ready() -> Response:
        """503 until the models are loaded, and again while the service shuts down."""
        registry.check_ready()
        return Answer({"status": "ready", "models": registry.names()})

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
        summary="Measurements",
    )
    async def get_metrics() -> Response:
        """What the service has counted since it started, in Prometheus's text format."""
        content = metrics.render() if siblings is None else await siblings.scrape()
        return Response(content, headers={"content-type": MEDIA_TYPE})

    return router
