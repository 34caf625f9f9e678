"""The questions about text: next word, score, rank, generate."""

from collections.abc import Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response

from app.ahead import likely_next
from app.answers import JSON, OnText, generate_answer, next_word_answer, rank_answer, score_answer
from app.connection import peer, while_connected
from app.direct import direct_route
from app.driver import Driver
from app.errors import responses
from app.registry import Registry
from app.schemas.bounds import Bounds
from app.schemas.requests import GenerateRequest, NextWordRequest, RankRequest, ScoreRequest
from app.schemas.responses import GenerateResponse, NextWordResponse, RankResponse, ScoreResponse
from app.settings import Settings
from app.streaming import stream_text
from app.wire import Answer, long_answer
from models.errors import InvalidRequestError
from models.forward import Program

_EVENTS = {
    "text/event-stream": {
        "schema": {
            # Of no type: some read a schema as that of the whole stream, others as an event's.
            "description": "If `stream` is true: an event `text` with `index` and `text` for each "
            "word, then an event `done` with the whole answer, or `error` with a problem.",
        },
        "example": 'event: text\ndata: {"index":0,"text":" is"}\n\n',
    }
}
_MANY = 1000  # predictions: more come only where a whole vocabulary is asked for


def question_routes(settings: Settings, registry: Registry, driver: Driver) -> APIRouter:
    """Return the routes that ask a model about text."""
    router = APIRouter(
        tags=["questions"],
        route_class=direct_route(settings.max_body_bytes),
        responses=responses(400, 404, 413, 415, 422, 429, 503),
    )
    bounds = Bounds(settings)

    @router.post("/next-word", response_model=NextWordResponse, summary="The next word")
    @bounds.apply
    async def post_next_word(request: Request, query: NextWordRequest) -> Response:
        """The most probable next words and their exact probabilities."""
        model = registry.get(query.model)
        program, items, small = next_word_answer(model, query), query.items, query.small
        work = driver.run(model, program, items=items, client=peer(request), small=small)
        answer = await while_connected(request, work)
        if small and settings.read_ahead:

            def ahead() -> "list[Program[JSON]]":  # quoted: not evaluated for each request
                likely = likely_next(query, answer["predictions"], settings.read_ahead)
                return [next_word_answer(model, question) for question in likely]

            driver.read_ahead(model, ahead)
        if len(answer["predictions"]) > _MANY:
            return await long_answer(answer, "predictions")
        return Answer(answer)

    @router.post("/score", response_model=ScoreResponse, summary="The likelihood of sentences")
    @bounds.apply
    async def post_score(request: Request, query: ScoreRequest) -> Response:
        """How likely each text is; each is scored alone."""
        model = registry.get(query.model)
        program, items = score_answer(model, query), query.items
        work = driver.run(model, program, items=items, client=peer(request))
        answer = await while_connected(request, work)
        if query.tokens and len(answer["results"]) > 1:
            return await long_answer(answer, "results")
        return Answer(answer)

    @router.post("/rank", response_model=RankResponse, summary="Alternatives in order")
    @bounds.apply
    async def post_rank(request: Request, query: RankRequest) -> Response:
        """Alternatives of one sentence, the best first."""
        model = registry.get(query.model)
        program, items = rank_answer(model, query), query.items
        work = driver.run(model, program, items=items, client=peer(request))
        return Answer(await while_connected(request, work))

    @router.post(
        "/generate",
        response_model=GenerateResponse,
        responses={200: {"content": _EVENTS}},
        summary="The continuation",
    )
    @bounds.apply
    async def post_generate(request: Request, query: GenerateRequest) -> Response:
        """How a text goes on: at once, or word by word as server-sent events."""
        if query.stream and query.strategy == "beam":
            raise InvalidRequestError("stream", "must be false for strategy beam")
        model = registry.get(query.model)

        def start(on_text: OnText | None = None) -> Coroutine[Any, Any, JSON]:
            program = generate_answer(model, query, on_text)
            return driver.run(model, program, items=query.sequences, client=peer(request))

        if query.stream:
            return await stream_text(request, start)
        return Answer(await while_connected(request, start()))

    return router
