"""Words and characters for keyboards of augmentative and alternative communication (AAC).

The names are those of Imagineville's service, which such keyboards speak with. What else it takes
(``right``, ``vocab``, ``sort``, ``safe``, ``lang``) is passed over.
"""

import re
from typing import Annotated, Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from annotated_types import Ge, Le
from fastapi import APIRouter, Query, Request, Response
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from app.ahead import likely_next
from app.answers import next_word_answer
from app.connection import peer, while_connected
from app.direct import DirectRoute, Handler
from app.driver import Driver
from app.errors import MalformedBodyError, responses
from app.registry import Registry
from app.schemas.aac import CharacterPrediction, WordPrediction
from app.schemas.bounds import Bounds, Limit
from app.schemas.requests import ModelName, NextWordRequest, Text, Word
from app.settings import Settings
from app.wire import Answer
from models.forward import Program
from models.next_character import next_character

_DECIMAL = re.compile("-?[0-9]+")


def _decimal(value: Any) -> Any:
    """Refuse what is a whole number to `int` and pydantic only, such as 5.0 and 1_0."""
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise PydanticCustomError("int_parsing", "Input should be a valid integer")
    return value


Num = Annotated[int, Ge(1), Limit(Le, "max_top_k"), BeforeValidator(_decimal)]
AnyName = Annotated[ModelName | None, Query(description="Name of the model.")]
_ASCII = bytes(range(128))
_LEFT = Query(description="What stands before.", examples=["I would like to book a "])


class _AACRoute(DirectRoute):
    """A route whose query is Unicode; `read_json` sees to that where text comes in a body."""

    def get_route_handler(self) -> Handler:
        """Return what FastAPI calls, behind a look at the query."""
        handle = super().get_route_handler()

        async def handle_unicode(request: Request) -> Response:
            request.scope["query_string"] = _escaped(request.scope["query_string"])
            return await handle(request)

        return handle_unicode


def _escaped(query: bytes) -> bytes:
    """Return a query whose text, bytes that should have been escaped too, is escaped UTF-8.

    Raises:
        MalformedBodyError: Some of it is not UTF-8. FastAPI would put other characters there.
    """
    try:
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError:
        raise MalformedBodyError("The query is not valid Unicode, as escaped UTF-8.") from None
    return query if query.isascii() else quote_from_bytes(query, safe=_ASCII).encode()


def aac_routes(settings: Settings, registry: Registry, driver: Driver) -> APIRouter:
    """Return the routes that such keyboards ask."""
    router = APIRouter(
        tags=["aac"], route_class=_AACRoute, responses=responses(400, 404, 422, 429, 503)
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
        program, small = next_word_answer(found, query), query.small
        work = driver.run(found, program, client=peer(request), small=small)
        answer = await while_connected(request, work)
        if small and settings.read_ahead:

            def ahead() -> "list[Program[dict[str, Any]]]":  # quoted: not evaluated for each key
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
