"""Words and characters for keyboards of augmentative and alternative communication (AAC).

The names are those of Imagineville's service, which such keyboards speak with. What else it takes
(``right``, ``vocab``, ``sort``, ``safe``, ``lang``) is passed over.
"""

import re
from typing import Annotated, Any

from annotated_types import Ge, Le
from fastapi import APIRouter, Query, Request, Response

from app.ahead import likely_next
from app.answers import next_word_answer
from app.connection import peer, while_connected
from app.direct import DirectRoute
from app.driver import Driver
from app.errors import responses
from app.registry import Registry
from app.schemas.aac import CharacterPrediction, WordPrediction
from app.schemas.bounds import Bounds, Limit
from app.schemas.requests import ModelName, NextWordRequest, Text, Word
from app.settings import Settings
from app.wire import Answer
from models.forward import Program
from models.next_character import next_character

Num = Annotated[int, Ge(1), Limit(Le, "max_top_k")]
AnyName = Annotated[ModelName | None, Query(description="Name of the model.")]
_LEFT = Query(description="What stands before.", examples=["I would like to book a "])


def aac_routes(settings: Settings, registry: Registry, driver: Driver) -> APIRouter:
    """Return the routes that such keyboards ask."""
    router = APIRouter(
        tags=["aac"], route_class=DirectRoute, responses=responses(400, 404, 422, 429, 503)
    )
    bounds = Bounds(settings)

    @router.get("/word/predict", response_model=WordPrediction, summary="Words for a keyboard")
    @bounds.apply
    async def get_word_predictions(
        request: Request,
        left: Annotated[Text, _LEFT] = "",
        prefix: Annotated[Word, Query(description="What is typed of the word.")] = "",
        num: Annotated[Num, Query(description="How many words.")] = 5,
        model: AnyName = None,
    ) -> Response:
        """The most probable words behind `left` that begin with `prefix`."""
        found = registry.get(model)
        # A prefix that holds a space is words, and the beginning of the next.
        *words, begun = re.split(r"\s+", prefix)
        text = " ".join([left, *words])
        query = NextWordRequest.model_construct(text=text, prefix=begun, top_k=num)
        program = next_word_answer(found, query)
        work = driver.run(found, program, client=peer(request), small=query.small)
        answer = await while_connected(request, work)
        if query.small and settings.read_ahead:

            def ahead() -> list[Program[dict[str, Any]]]:
                likely = likely_next(query, answer["predictions"], settings.read_ahead)
                return [next_word_answer(found, question) for question in likely]

            driver.read_ahead(found, ahead)
        results = [{"text": p.word, "logProb": p.log_prob} for p in answer["predictions"]]
        return Answer({"results": results, "words": [result["text"] for result in results]})

    @router.get(
        "/character/predict",
        response_model=CharacterPrediction,
        summary="Characters for a keyboard",
    )
    @bounds.apply
    async def get_character_predictions(
        request: Request,
        left: Annotated[Text, _LEFT] = "",
        num: Annotated[Num | None, Query(description="How many characters; else all.")] = None,
        model: AnyName = None,
    ) -> Response:
        """The probability of every next character, over all words that it may begin or go on."""
        found = registry.get(model)
        work = driver.run(found, next_character(found, left), client=peer(request))
        characters = await while_connected(request, work)
        results = [{"text": c.text, "logProb": c.log_prob} for c in characters[:num]]
        return Answer({"results": results})

    return router
