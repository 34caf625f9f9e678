"""Ask a served model from Python: `Client`, and `AsyncClient` for event loops.

::

    with Client("http://127.0.0.1:8000") as client:
        for p in client.next_word("I would like to book a", top_k=3).predictions:
            print(p.word, p.probability)

Answers are what the service documents, typed. A service that is busy (429), or is starting or
stopping (503), is asked again when it says so, or a little later each time; asking twice does no
harm, for no question changes anything.

Errors::

    NextwordError              (models.errors)
    └── ClientError
        ├── UnreachableError   nobody answered, not in time, or not to the end
        └── ServiceError       the service answered with a problem, whose details it carries
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from urllib.parse import quote

import httpx
import orjson
from pydantic import BaseModel

from app.client_fields import GenerateFields, NextWordFields, RankFields, ScoreFields
from app.client_protocol import (
    ClientError,
    EventParser,
    Page,
    PageCutter,
    Retries,
    ServiceError,
    TextPiece,
    UnreachableError,
    answer_of,
    event_of,
    failure_of,
    unreachable,
)
from app.schemas.bulk import BulkError, BulkScore
from app.schemas.responses import (
    GenerateResponse,
    ModelInfo,
    ModelList,
    NextWordResponse,
    RankResponse,
    Readiness,
    ScoreResponse,
)

__all__ = [
    "AsyncClient",
    "BulkError",
    "BulkScore",
    "Client",
    "ClientError",
    "Retries",
    "ServiceError",
    "TextPiece",
    "UnreachableError",
]

A = TypeVar("A", bound=BaseModel)
Line = Mapping[str, Any] | str
Row = BulkScore | BulkError

_URL = "http://127.0.0.1:8000"
_TIMEOUT = 75.0  # seconds; the service gives up after 60, unless it is set otherwise
_CONNECT = 10.0  # seconds
_PAGES = 2  # at a time: the service has one to compute while another is on its way


class Client:
    """Asks and waits. May be used by several threads at a time.

    Every method raises `ServiceError` for a problem and `UnreachableError` where there is no
    answer, after as many tries as `Retries` allows.
    """

    def __init__(
        self,
        url: str = _URL,
        *,
        api_key: str | None = None,
        timeout: float = _TIMEOUT,
        retries: Retries = Retries(),  # noqa: B008 - frozen
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: Where the service is.
            api_key: Sent as a bearer token, where the service wants one.
            timeout: Seconds to wait for an answer to begin or to go on.
            retries: When to ask again.
            transport: How to connect, if not over the network.
        """
        self._retries = retries
        self._http = httpx.Client(**_options(url, api_key, timeout), transport=transport)

    def __enter__(self) -> Self:
        """Be closed at the end of a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def next_word(self, text: str, **fields: Unpack[NextWordFields]) -> NextWordResponse:
        """Return the most probable next words."""
        return self._ask("/next-word", {"text": text, **fields}, NextWordResponse)

    def score(self, text: str | list[str], **fields: Unpack[ScoreFields]) -> ScoreResponse:
        """Return how likely a text is, or each of several."""
        return self._ask("/score", {"text": text, **fields}, ScoreResponse)

    def rank(self, candidates: Iterable[Line], **fields: Unpack[RankFields]) -> RankResponse:
        """Return alternatives, the best first: texts, or mappings of ``text`` and ``score``."""
        body = {"candidates": [_named(c) for c in candidates], **fields}
        return self._ask("/rank", body, RankResponse)

    def generate(self, text: str, **fields: Unpack[GenerateFields]) -> GenerateResponse:
        """Return how a text goes on."""
        return self._ask("/generate", {"text": text, **fields}, GenerateResponse)

    def stream(
        self, text: str, **fields: Unpack[GenerateFields]
    ) -> Iterator[TextPiece | GenerateResponse]:
        """Yield words as they are generated, and behind the last the whole answer.

        The service goes on until the iterator is used up or closed.
        """
        body = {"text": text, **fields, "stream": True}
        response = self._send(self._post("/generate", body), stream=True)
        parser = EventParser()
        try:
            for line in response.iter_lines():
                event = parser.feed(line)
                said = event_of(event) if event else None
                if said is not None:
                    yield said
                if isinstance(said, GenerateResponse):
                    return
        except httpx.HTTPError as error:
            raise unreachable(error, response.url) from error
        finally:
            response.close()
        raise _broken(response)

    def score_bulk(self, lines: Iterable[Line]) -> Iterator[Row]:
        """Yield a row for each line, in order and in constant memory, however many there are.

        Args:
            lines: Texts, or mappings with the fields of a line of `/score/bulk`.
        """
        return map(_row, self.score_lines(map(_dumped, lines)))

    def score_lines(self, lines: Iterable[bytes], first: int = 1) -> Iterator[bytes]:
        """Yield a row of JSON for each line of JSON, without line ends; see `score_bulk`.

        Args:
            lines: Of which each is a line of `/score/bulk`.
            first: Number of the first, which its row tells.

        Raises:
            ValueError: A line contains a line break.
        """
        coming: deque[Future[list[bytes]]] = deque()
        with ThreadPoolExecutor(_PAGES) as pool:
            for page in _pages(lines, first):
                coming.append(pool.submit(self._score_page, page))
                if len(coming) > _PAGES:
                    yield from coming.popleft().result()
            while coming:
                yield from coming.popleft().result()

    def models(self) -> ModelList:
        """Return the loaded models."""
        return answer_of(self._send(self._http.build_request("GET", "/models")), ModelList)

    def model(self, name: str) -> ModelInfo:
        """Return one loaded model."""
        url = f"/models/{quote(name, safe='')}"
        return answer_of(self._send(self._http.build_request("GET", url)), ModelInfo)

    def ready(self) -> Readiness:
        """Return which models are ready; waits for a service that is starting."""
        return answer_of(self._send(self._http.build_request("GET", "/ready")), Readiness)

    def _ask(self, path: str, body: Mapping[str, Any], schema: type[A]) -> A:
        return answer_of(self._send(self._post(path, body)), schema)

    def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Request:
        return self._http.build_request("POST", path, json=body)

    def _score_page(self, page: Page) -> list[bytes]:
        tried = 0
        while body := page.body():
            request = self._http.build_request("POST", "/score/bulk", content=body, headers=_LINES)
            if failure := page.take(self._send(request).content):
                self._wait(failure, tried)
                tried += 1
        return page.rows()

    def _send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """Return a good answer."""
        tried = 0
        while True:
            failure: ClientError | None
            try:
                response = self._http.send(request, stream=stream)
                if not response.is_success:
                    response.read()
                failure = failure_of(response)
            except httpx.HTTPError as error:
                failure = unreachable(error, request.url)
            if failure is None:
                return response
            self._wait(failure, tried)
            tried += 1

    def _wait(self, failure: ClientError, tried: int) -> None:
        wait = self._retries.wait(failure, tried)
        if wait is None:
            raise failure
        time.sleep(wait)


class AsyncClient:
    """The same as `Client`, awaited."""

    def __init__(
        self,
        url: str = _URL,
        *,
        api_key: str | None = None,
        timeout: float = _TIMEOUT,
        retries: Retries = Retries(),  # noqa: B008 - frozen
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Connect to nothing yet; see `Client`."""
        self._retries = retries
        self._http = httpx.AsyncClient(**_options(url, api_key, timeout), transport=transport)

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
        body = {"candidates": [_named(c) for c in candidates], **fields}
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
            async for line in response.aiter_lines():
                event = parser.feed(line)
                said = event_of(event) if event else None
                if said is not None:
                    yield said
                if isinstance(said, GenerateResponse):
                    return
        except httpx.HTTPError as error:
            raise unreachable(error, response.url) from error
        finally:
            await response.aclose()
        raise _broken(response)

    async def score_bulk(self, lines: Iterable[Line] | AsyncIterable[Line]) -> AsyncIterator[Row]:
        """Yield a row for each line, in order and in constant memory; see `Client.score_bulk`."""
        coming: deque[asyncio.Task[list[bytes]]] = deque()
        try:
            async for page in _pages_async(lines):
                coming.append(asyncio.ensure_future(self._score_page(page)))
                if len(coming) > _PAGES:
                    for row in await coming.popleft():
                        yield _row(row)
            while coming:
                for row in await coming.popleft():
                    yield _row(row)
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
            request = self._http.build_request("POST", "/score/bulk", content=body, headers=_LINES)
            if failure := page.take((await self._send(request)).content):
                await self._wait(failure, tried)
                tried += 1
        return page.rows()

    async def _send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """Return a good answer."""
        tried = 0
        while True:
            failure: ClientError | None
            try:
                response = await self._http.send(request, stream=stream)
                if not response.is_success:
                    await response.aread()
                failure = failure_of(response)
            except httpx.HTTPError as error:
                failure = unreachable(error, request.url)
            if failure is None:
                return response
            await self._wait(failure, tried)
            tried += 1

    async def _wait(self, failure: ClientError, tried: int) -> None:
        wait = self._retries.wait(failure, tried)
        if wait is None:
            raise failure
        await asyncio.sleep(wait)


_LINES = {"content-type": "application/x-ndjson"}


def _options(url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    return {
        "base_url": url,
        "timeout": httpx.Timeout(timeout, connect=min(timeout, _CONNECT)),
        "headers": {} if api_key is None else {"authorization": f"Bearer {api_key}"},
    }


def _broken(response: httpx.Response) -> UnreachableError:
    return UnreachableError(f"{response.url}: the stream ended before the answer", again=False)


def _named(line: Line) -> Mapping[str, Any]:
    return {"text": line} if isinstance(line, str) else line


def _dumped(line: Line) -> bytes:
    return orjson.dumps(_named(line))


def _row(row: bytes) -> Row:
    content = orjson.loads(row)
    return (BulkError if "error" in content else BulkScore).model_validate(content)


def _pages(lines: Iterable[bytes], first: int = 1) -> Iterator[Page]:
    cutter = PageCutter(first)
    for line in lines:
        if page := cutter.add(line):
            yield page
    if page := cutter.finish():
        yield page


async def _pages_async(lines: Iterable[Line] | AsyncIterable[Line]) -> AsyncIterator[Page]:
    if isinstance(lines, Iterable):
        for page in _pages(map(_dumped, lines)):
            yield page
        return
    cutter = PageCutter()
    async for line in lines:
        if cut := cutter.add(_dumped(line)):
            yield cut
    if cut := cutter.finish():
        yield cut
