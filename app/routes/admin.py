"""What only an operator may ask for."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.answers import model_answer
from app.direct import DirectRoute
from app.errors import responses
from app.keys import require_admin
from app.registry import Registry
from app.reloading import Reloading
from app.schemas.requests import ModelName
from app.schemas.responses import ModelInfo
from app.wire import Answer


def admin_routes(registry: Registry, reloading: Reloading) -> APIRouter:
    """Return the routes that change what is served."""
    router = APIRouter(tags=["service"], route_class=DirectRoute)

    @router.post(
        "/models/{name}/reload",
        response_model=ModelInfo,
        responses=responses(401, 403, 404, 409, 422, 503),
        summary="Load a model anew",
    )
    async def post_reload(
        request: Request,
        name: Annotated[ModelName, Path(description="Name of the model, that of its folder.")],
    ) -> Response:
        """Put the checkpoint that is in the model's folder now in the place of the loaded one.

        No request fails meanwhile: what runs ends on the old one. If the new one cannot be loaded,
        the answer is 409 and the old one stays.
        """
        require_admin(request)
        model = await reloading.everywhere(name)
        return Answer(model_answer(model, default=registry.is_default(model)))

    return router
