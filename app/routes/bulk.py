"""Scoring without an end: lines in, rows out."""

import asyncio
from collections import defaultdict

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from app.bulk.rows import Line, score_line
from app.bulk.stream import MEDIA_TYPE, RowStream
from app.connection import peer
from app.direct import DirectRoute
from app.driver import Driver
from app.errors import (
    HANDLED,
    BusyError,
    NotReadyError,
    RateLimitedError,
    UnsupportedMediaTypeError,
    responses,
)
from app.registry import Registry
from app.schemas.bounds import Bounds
from app.schemas.bulk import BulkScoreRequest
from app.settings import Settings
from models.language_model import LanguageModel
from models.score import SentenceScore

# What ndjson and its twin, JSON lines, are called; none of the names was ever registered.
_MEDIA_TYPES = {
    b"application/x-ndjson",
    b"application/ndjson",
    b"application/jsonl",
    b"application/x-jsonlines",
}
_LONGEST_WAIT = 1.0  # seconds to the next try to get into a full queue

log = structlog.get_logger()


_ROWS = {
    MEDIA_TYPE: {
        "schema": {
            "type": "string",
            "description": "For each line of the body one of JSON: `id` and `line` (its number, "
            "from 1), then `model`, `log_prob` and the other numbers that `/score` gives, or "
            "`error`, a problem.",
        },
        "example": '{"id":"line-1","line":1,"model":"everyday-lstm","log_prob":-21.5,'
        '"perplexity":36.0,"mean_log_prob":-3.58,"bits_per_character":1.29,"scored_tokens":6,'
        '"oov_count":0,"eos_log_prob":-1.2,"words":null}\n',
    }
}


def bulk_routes(settings: Settings, registry: Registry, driver: Driver) -> APIRouter:
    """Return the routes whose bodies have no end."""
    router = APIRouter(tags=["questions"], route_class=DirectRoute)
    line_schema = Bounds(settings).bind(BulkScoreRequest)
    check = TypeAdapter(line_schema).validator.validate_python
    # Of all streams together: however many there are, most of a model's queue is left to others.
    most = max(1, settings.queue_items // 8)
    rooms: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(most))

    async def score(query: BulkScoreRequest, client: str) -> tuple[str, SentenceScore]:
        model = registry.get(query.model)
        while True:
            try:
                async with rooms[model.name]:
                    return model.name, await score_by(model, query, client)
            except RateLimitedError as limited:  # which concerns nobody else
                await asyncio.sleep(limited.retry_after)

    async def score_by(model: LanguageModel, query: BulkScoreRequest, client: str) -> SentenceScore:
        items = 4 if query.tokens else 1  # as in /score
        while True:
            try:
                program = score_line(model, query)
                return await driver.run(model, program, items=items, client=client)
            except RateLimitedError:
                raise
            except BusyError as busy:
                await asyncio.sleep(min(busy.retry_after, _LONGEST_WAIT))

    @router.post(
        "/score/bulk",
        response_class=Response,
        responses={200: {"content": _ROWS}, **responses(415, 503)},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {MEDIA_TYPE: {"schema": line_schema.model_json_schema()}},
            }
        },
        summary="The likelihood of any number of sentences",
    )
    async def post_score_bulk(request: Request) -> Response:
        """One line of JSON in, one out, in order and as they come, however many there are.

        A line that cannot be scored is answered by an `error`, and those behind it go on. Read
        while you write: from a client that does not take its answers nothing more is read.
        """
        _check_headers(request)
        registry.get()
        client, request_id = peer(request), request.state.request_id

        async def make_row(number: int, raw: bytes) -> bytes:
            line = Line(number, raw)
            try:
                query = line.read(check, settings.max_body_bytes)
                return line.scored(*await score(query, client))
            except HANDLED as error:
                if isinstance(error, NotReadyError):  # the service is shutting down
                    stream.stop_reading()
                return line.failed(error, request_id)
            except Exception as error:  # a bug, which must not take the other lines along
                log.error("bug", error=type(error).__name__, request_id=request_id)
                return line.failed(error, request_id)

        stream = RowStream(
            make_row,
            window=settings.bulk_lines,
            most_bytes=settings.max_body_bytes,
            idle_seconds=settings.body_seconds,
        )
        return stream

    return router


def _check_headers(request: Request) -> None:
    media_type = encoding = None
    for name, value in request.scope["headers"]:
        if name == b"content-type" and media_type is None:
            media_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-encoding":
            encoding = value
    if media_type not in _MEDIA_TYPES:
        raise UnsupportedMediaTypeError(f"Content-Type must be {MEDIA_TYPE}.")
    if encoding is not None:
        raise UnsupportedMediaTypeError("The body must be sent without Content-Encoding.")
