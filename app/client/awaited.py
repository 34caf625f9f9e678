"""The client for event loops."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from app.client.connection import (
    TIMEOUT,
    URL,
    answer_of,
    broken,
    connection,
    failure_of,
    unreachable,
)
from app.client.errors import ClientError
from app.client.events import EventParser, TextPiece, event_of
from app.client.fields import GenerateFields, NextWordFields, RankFields, ScoreFields
from app.client.pages import (
    LINES,
    PAGES_AT_A_TIME,
    Line,
    Page,
    Row,
    cut_async,
    named,
    row_of,
)
from app.client.retries import Retries
from app.schemas.responses import (
    GenerateResponse,
    ModelInfo,
    ModelList,
    NextWordResponse,
    RankResponse,
    Readiness,
    ScoreResponse,
)

A = TypeVar("A", bound=BaseModel)


class AsyncClient:
    """The same as `Client`, awaited."""

    def __init__(
        self,
        url: str = URL,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retries: Retries = Retries(),  # noqa: B008 - frozen
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Connect to nothing yet; see `Client`."""
        self._retries = retries
        self._http = httpx.AsyncClient(**connection(url, api_key, timeout), transport=transport)

    async def __aenter__(self) -> Self:
        """Be closed at the end of a block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def next_word(self, text: str, **fields: Unpack[NextWordFields]) -> NextWordResponse:
        """Return the most probable next words."""
        return await self._ask("/next-word", {"text": text, **fields}, NextWordResponse)

    async def score(self, text: str | list[str], **fields: Unpack[ScoreFields]) -> ScoreResponse:
        """Return how likely a text is, or each of several."""
        return await self._ask("/score", {"text": text, **fields}, ScoreResponse)

    async def rank(self, candidates: Iterable[Line], **fields: Unpack[RankFields]) -> RankResponse:
        """Return alternatives, the best first: texts, or mappings of ``text`` and ``score``."""
        body = {"candidates": [named(c) for c in candidates], **fields}
        return await self._ask("/rank", body, RankResponse)

    async def generate(self, text: str, **fields: Unpack[GenerateFields]) -> GenerateResponse:
        """Return how a text goes on."""
        return await self._ask("/generate", {"text": text, **fields}, GenerateResponse)

    async def stream(
        self, text: str, **fields: Unpack[GenerateFields]
    ) -> AsyncIterator[TextPiece | GenerateResponse]:
        """Yield words as they are generated, and behind the last the whole answer."""
        body = {"text": text, **fields, "stream": True}
        response = await self._send(self._post("/generate", body), stream=True)
        parser = EventParser()
        try:
            async for data in response.aiter_bytes():
                for event in parser.feed(data):
                    said = event_of(event)
                    if said is not None:
                        yield said
                    if isinstance(said, GenerateResponse):
                        return
        except httpx.HTTPError as error:
            raise unreachable(error, response.url) from error
        finally:
            await response.aclose()
        raise broken(response)

    async def score_bulk(self, lines: Iterable[Line] | AsyncIterable[Line]) -> AsyncIterator[Row]:
        """Yield a row for each line, in order and in constant memory; see `Client.score_bulk`."""
        coming: deque[asyncio.Task[list[bytes]]] = deque()
        try:
            async for page in cut_async(lines):
                coming.append(asyncio.ensure_future(self._score_page(page)))
                if len(coming) > PAGES_AT_A_TIME:
                    for row in await coming.popleft():
                        yield row_of(row)
            while coming:
                for row in await coming.popleft():
                    yield row_of(row)
        finally:
            for task in coming:
                task.cancel()

    async def models(self) -> ModelList:
        """Return the loaded models."""
        return answer_of(await self._send(self._http.build_request("GET", "/models")), ModelList)

    async def model(self, name: str) -> ModelInfo:
        """Return one loaded model."""
        url = f"/models/{quote(name, safe='')}"
        return answer_of(await self._send(self._http.build_request("GET", url)), ModelInfo)

    async def ready(self) -> Readiness:
        """Return which models are ready; waits for a service that is starting."""
        return answer_of(await self._send(self._http.build_request("GET", "/ready")), Readiness)

    async def _ask(self, path: str, body: Mapping[str, Any], schema: type[A]) -> A:
        return answer_of(await self._send(self._post(path, body)), schema)

    def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Request:
        return self._http.build_request("POST", path, json=body)

    async def _score_page(self, page: Page) -> list[bytes]:
        tried = 0
        while body := page.body():
            request = self._http.build_request("POST", "/score/bulk", content=body, headers=LINES)
            if failure := await self._fill(page, request):
                await self._wait(failure, tried)
                tried += 1
        return page.rows()

    async def _fill(self, page: Page, request: httpx.Request) -> ClientError | None:
        """Ask once; return what stands in the way of the rows that did not come."""
        answer = bytearray()
        failure: ClientError | None = None
        try:
            async with aclosing(await self._try(request, stream=True)) as response:
                async for piece in response.aiter_bytes():
                    answer += piece
        except httpx.HTTPError as error:
            failure = unreachable(error, request.url)
        except ClientError as error:
            failure = error
        return page.take(bytes(answer), failure)

    async def _send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """Return a good answer."""
        tried = 0
        while True:
            try:
                return await self._try(request, stream=stream)
            except ClientError as failure:
                await self._wait(failure, tried)
                tried += 1

    async def _try(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        """Return a good answer, asked for once."""
        try:
            response = await self._http.send(request, stream=stream)
            if not response.is_success:
                await response.aread()
        except httpx.HTTPError as error:
            raise unreachable(error, request.url) from error
        if failure := failure_of(response):
            raise failure
        return response

    async def _wait(self, failure: ClientError, tried: int) -> None:
        wait = self._retries.wait(failure, tried)
        if wait is None:
            raise failure
        await asyncio.sleep(wait)
