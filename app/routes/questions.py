"""The questions about text: next word, score, rank, generate."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from app.answers import generate_answer, next_word_answer, rank_answer, score_answer
from app.connection import while_connected
from app.driver import Driver
from app.errors import responses
from app.registry import Registry
from app.schemas.bounds import Bounds
from app.schemas.requests import GenerateRequest, NextWordRequest, RankRequest, ScoreRequest
from app.schemas.responses import GenerateResponse, NextWordResponse, RankResponse, ScoreResponse
from app.settings import Settings
from app.streaming import OnText, stream_text
from app.wire import Answer, json_route
from models.errors import InvalidRequestError
from models.forward import side_by_side
from models.generate import generate
from models.next_word import next_word
from models.rank import rank
from models.score import score

_EVENTS = {
    "text/event-stream": {
        "schema": {
            "type": "string",
            "description": "If `stream` is true: an event `text` with `index` and `text` for each "
            "word, then an event `done` with the whole answer, or `error` with a problem.",
        },
        "example": 'event: text\ndata: {"index":0,"text":" is"}\n\n',
    }
}


def question_routes(settings: Settings, registry: Registry, driver: Driver) -> APIRouter:
    """Return the routes that ask a model about text."""
    router = APIRouter(
        tags=["questions"],
        route_class=json_route(settings.max_body_bytes),
        responses=responses(400, 404, 413, 415, 422, 503),
    )
    bounds = Bounds(settings)

    @router.post("/next-word", response_model=NextWordResponse, summary="The next word")
    async def post_next_word(
        request: Request, query: Annotated[NextWordRequest, bounds]
    ) -> Response:
        """The most probable next words and their exact probabilities."""
        model = registry.get(query.model)
        program = next_word(
            model,
            query.text,
            top_k=query.top_k,
            prefix=query.prefix,
            candidates=query.candidates,
            num_words=query.num_words,
            temperature=query.temperature,
            words_only=query.words_only,
            exclude=frozenset(query.exclude),
        )
        found = await while_connected(request, driver.run(model, program))
        return Answer(next_word_answer(model, found))

    @router.post("/score", response_model=ScoreResponse, summary="The likelihood of sentences")
    async def post_score(request: Request, query: Annotated[ScoreRequest, bounds]) -> Response:
        """How likely each text is; each is scored alone."""
        model = registry.get(query.model)
        program = side_by_side(
            [
                score(
                    model,
                    text,
                    context=query.context,
                    bos=query.bos,
                    eos=query.eos,
                    words=query.tokens,
                )
                for text in query.texts
            ]
        )
        scores = await while_connected(request, driver.run(model, program))
        return Answer(score_answer(model, scores))

    @router.post("/rank", response_model=RankResponse, summary="Alternatives in order")
    async def post_rank(request: Request, query: Annotated[RankRequest, bounds]) -> Response:
        """Alternatives of one sentence, the best first."""
        model = registry.get(query.model)
        program = rank(
            model,
            [candidate.text for candidate in query.candidates],
            scores=[candidate.score for candidate in query.candidates],
            context=query.context,
            lm_weight=query.lm_weight,
            length_bonus=query.length_bonus,
            normalize=query.normalize,
        )
        ranked = await while_connected(request, driver.run(model, program))
        return Answer(rank_answer(model, ranked))

    @router.post(
        "/generate",
        response_model=GenerateResponse,
        responses={200: {"content": _EVENTS}},
        summary="The continuation",
    )
    async def post_generate(
        request: Request, query: Annotated[GenerateRequest, bounds]
    ) -> Response:
        """How a text goes on: at once, or word by word as server-sent events."""
        if query.stream and query.strategy == "beam":
            raise InvalidRequestError("stream", "must be false for strategy beam")
        model = registry.get(query.model)

        async def answer(on_text: OnText | None = None) -> dict[str, Any]:
            program = generate(
                model,
                query.text,
                max_tokens=query.max_tokens,
                strategy=query.strategy,
                temperature=query.temperature,
                top_k=query.top_k,
                top_p=query.top_p,
                min_p=query.min_p,
                repetition_penalty=query.repetition_penalty,
                seed=query.seed,
                num_beams=query.num_beams,
                n=query.n,
                stop=query.stop,
                on_text=on_text,
            )
            generation = await driver.run(model, program)
            return generate_answer(model, generation, tokens=query.log_probs)

        if query.stream:
            return await stream_text(request, answer)
        return Answer(await while_connected(request, answer()))

    return router
