"""The client that waits."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from threading import Event
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
from app.client.pages import LINES, PAGES_AT_A_TIME, Line, Page, Row, cut, dumped, named, row_of
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


class Client:
    """Asks and waits. May be used by several threads at a time.

    Every method raises `ServiceError` for a problem and `UnreachableError` where there is no
    answer, after as many tries as `Retries` allows.
    """

    def __init__(
        self,
        url: str = URL,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
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
        self._http = httpx.Client(**connection(url, api_key, timeout), transport=transport)

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
        body = {"candidates": [named(c) for c in candidates], **fields}
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
            for data in response.iter_bytes():
                for event in parser.feed(data):
                    said = event_of(event)
                    if said is not None:
                        yield said
                    if isinstance(said, GenerateResponse):
                        return
        except httpx.HTTPError as error:
            raise unreachable(error, response.url) from error
        finally:
            response.close()
        raise broken(response)

    def score_bulk(self, lines: Iterable[Line]) -> Iterator[Row]:
        """Yield a row for each line, in order and in constant memory, however many there are.

        Args:
            lines: Texts, or mappings with the fields of a line of `/score/bulk`.
        """
        return map(row_of, self.score_lines(map(dumped, lines)))

    def score_lines(self, lines: Iterable[bytes], first: int = 1) -> Iterator[bytes]:
        """Yield a row of JSON for each line of JSON, without line ends; see `score_bulk`.

        Args:
            lines: Of which each is a line of `/score/bulk`.
            first: Number of the first, which its row tells.

        Raises:
            ValueError: A line contains a line break.
        """
        coming: deque[Future[list[bytes]]] = deque()
        left = Event()
        pool = ThreadPoolExecutor(PAGES_AT_A_TIME)
        try:
            for page in cut(lines, first):
                coming.append(pool.submit(self._score_page, page, left))
                if len(coming) > PAGES_AT_A_TIME:
                    yield from coming.popleft().result()
            while coming:
                yield from coming.popleft().result()
        finally:
            # Whoever has enough waits for no page, and no page for another try.
            left.set()
            pool.shutdown(wait=False, cancel_futures=True)

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

    def _score_page(self, page: Page, left: Event) -> list[bytes]:
        """Return the rows of a page, for which there are as many tries as for any question.

        Args:
            page: The page.
            left: Nobody wants the rows any more.
        """
        tried = 0
        while body := page.body():
            request = self._http.build_request("POST", "/score/bulk", content=body, headers=LINES)
            if failure := self._fill(page, request):
                self._wait(failure, tried, left)
                tried += 1
        return page.rows()

    def _fill(self, page: Page, request: httpx.Request) -> ClientError | None:
        """Ask once; return what stands in the way of the rows that did not come."""
        answer = bytearray()
        failure: ClientError | None = None
        try:
            with closing(self._try(request, stream=True)) as response:
                for piece in response.iter_bytes():
                    answer += piece
        except httpx.HTTPError as error:
            failure = unreachable(error, request.url)
        except ClientError as error:
            failure = error
        return page.take(bytes(answer), failure)

    def _send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """Return a good answer."""
        tried = 0
        while True:
            try:
                return self._try(request, stream=stream)
            except ClientError as failure:
                self._wait(failure, tried)
                tried += 1

    def _try(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        """Return a good answer, asked for once."""
        try:
            response = self._http.send(request, stream=stream)
            if not response.is_success:
                response.read()
        except httpx.HTTPError as error:
            raise unreachable(error, request.url) from error
        if failure := failure_of(response):
            raise failure
        return response

    def _wait(self, failure: ClientError, tried: int, left: Event | None = None) -> None:
        """Wait for the next try, if there is one, and nobody has left before."""
        wait = self._retries.wait(failure, tried)
        if wait is None or _pause(wait, left or Event()):
            raise failure


def _pause(seconds: float, left: Event) -> bool:
    return left.wait(seconds)
