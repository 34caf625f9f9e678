"""OpenAI's completions, for clients that speak that."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request, Response

from app.completions import Completer, Event, encode_prompts
from app.connection import peer, while_connected
from app.direct import direct_route
from app.driver import Driver
from app.errors import responses
from app.openai_errors import stream_error
from app.registry import Registry
from app.schemas.bounds import Bounds
from app.schemas.openai import (
    CompletionRequest,
    CompletionResponse,
    OpenAIError,
    OpenAIModel,
    OpenAIModels,
)
from app.schemas.requests import ModelName
from app.settings import Settings
from app.streaming import stream_events
from app.wire import Answer, long_answer
from models.completion import Completion
from models.language_model import LanguageModel

_EVENTS = {
    "text/event-stream": {
        "schema": {
            # Of no type, as in `questions`.
            "description": "If `stream` is true: an answer with what was added as `data` for each "
            "word, then `[DONE]`; an `error` if something goes wrong behind the first.",
        },
        "example": 'data: {"id":"cmpl-1","choices":[{"index":0,"text":" is"}]}\n\ndata: [DONE]\n\n',
    }
}
_DONE = b"data: [DONE]\n\n"
_MOST_TOKENS = 32  # that are told of in the event loop itself: some milliseconds at the most


def openai_routes(settings: Settings, registry: Registry, driver: Driver) -> APIRouter:
    """Return the routes that OpenAI's clients ask."""
    router = APIRouter(
        prefix="/v1", tags=["openai"], route_class=direct_route(settings.max_body_bytes)
    )
    bounds = Bounds(settings)
    started = int(time.time())

    def describe(model: LanguageModel) -> dict[str, Any]:
        return {
            "id": model.name,
            "object": "model",
            "created": started,
            "owned_by": "nextword",
            "max_model_len": model.network.context_length,
        }

    @router.post(
        "/completions",
        response_model=CompletionResponse,
        responses=_errors(400, 404, 413, 415, 429, 503) | {200: {"content": _EVENTS}},
        summary="Completions, as OpenAI's",
    )
    @bounds.apply
    async def post_completions(request: Request, query: CompletionRequest) -> Response:
        """How prompts go on, and how likely each of their tokens is."""
        model = registry.get(query.model)
        prompts = await asyncio.to_thread(
            encode_prompts,
            model,
            query,
            most_tokens=settings.max_token_ids,
            most_sequences=settings.max_texts,
        )
        completer = Completer(model, query, prompts, name=request.state.request_id)

        def start(
            tell: Callable[[Event], None] | None = None,
        ) -> Coroutine[Any, Any, list[Completion]]:
            program = completer.program(tell)
            return driver.run(model, program, items=completer.items, client=peer(request))

        if not query.stream:
            completions = await while_connected(request, start())
            answer = await asyncio.to_thread(completer.answer, completions)
            return await long_answer(answer, "choices")

        def data(event: Event) -> bytes:
            return b"".join(map(_data, completer.chunks(event)))

        async def write(event: Event) -> bytes:
            if len(event.tokens) > _MOST_TOKENS:
                return await asyncio.to_thread(data, event)
            return data(event)

        return await stream_events(
            request,
            start,
            write=write,
            write_end=lambda _: b"".join(map(_data, completer.last_chunks())) + _DONE,
            write_error=lambda error, request_id: _data(stream_error(error, request_id)),
        )

    @router.get(
        "/models", response_model=OpenAIModels, responses=_errors(503), summary="OpenAI's models"
    )
    async def get_openai_models() -> Response:
        """The loaded models, the default first."""
        names = registry.names()
        models = [registry.get(name) for name in names] or [registry.get()]
        models.sort(key=lambda model: not registry.is_default(model))
        return Answer({"object": "list", "data": [describe(model) for model in models]})

    @router.get(
        "/models/{name}",
        response_model=OpenAIModel,
        responses=_errors(400, 404, 503),
        summary="One of OpenAI's models",
    )
    async def get_openai_model(
        name: Annotated[ModelName, Path(description="Name of the model.")],
    ) -> Response:
        """One loaded model."""
        return Answer(describe(registry.get(name)))

    return router


def _data(content: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(content)


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare errors for OpenAPI, in OpenAI's form."""
    declared = responses(*statuses) | {"default": {"description": "Any other error."}}
    for response in declared.values():
        response.pop("content", None)
        response["model"] = OpenAIError
    return declared
