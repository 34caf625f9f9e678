"""What both clients know of the service: its problems, when to ask again, its events, its pages.

Nothing here waits or sends.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
import orjson
from pydantic import BaseModel, ValidationError

from app.schemas.responses import FieldProblem, GenerateResponse
from models.errors import NextwordError

A = TypeVar("A", bound=BaseModel)

_AGAIN = (429, 503)  # statuses of a service that may have room, or be ready, later
_FIRST_WAIT = 0.25  # seconds; twice as long each time
# The service reads as many lines of a stream as these before it waits for an answer to be taken:
# a page may be written whole before anything is read.
_PAGE_LINES = 128
_PAGE_BYTES = 1 << 19


class ClientError(NextwordError):
    """There is no answer."""


class UnreachableError(ClientError):
    """Nobody answered at the address, not in time, or not to the end.

    Attributes:
        again: Another try may help, and costs little.
    """

    def __init__(self, message: str, *, again: bool) -> None:
        """Say what happened, and whether to try again."""
        super().__init__(message)
        self.again = again


class ServiceError(ClientError):
    """The service answered with a problem.

    Attributes:
        status: The HTTP status.
        title: The status in words.
        detail: What happened.
        errors: Faults of single fields, if that is why.
        request_id: Under which the service's log knows of it; None where there is none.
        retry_after: Seconds after which to ask again, where the service says so.
    """

    def __init__(self, status: int, body: Any, retry_after: float | None = None) -> None:
        """Take what ``body``, the JSON of the answer, has of a problem's fields."""
        known = body if isinstance(body, dict) else {}
        self.status, self.retry_after = status, retry_after
        self.title = str(known.get("title") or _phrase(status))
        self.detail = str(known.get("detail") or "")
        self.request_id: str | None = known.get("request_id")
        try:
            self.errors = [FieldProblem.model_validate(one) for one in known.get("errors") or ()]
        except (ValidationError, TypeError):
            self.errors = []
        faults = "; ".join(f"{error.field}: {error.message}" for error in self.errors)
        parts = (f"{status} {self.title}", self.detail, faults)
        super().__init__(": ".join(part.rstrip(".:") for part in parts if part))


@dataclass(frozen=True)
class Retries:
    """When to ask again.

    Attributes:
        most: Tries after the first; 0 for none.
        longest_wait: Seconds; a service that wants to be left alone for longer is not asked again.
    """

    most: int = 4
    longest_wait: float = 30.0

    def wait(self, failure: ClientError, tried: int) -> float | None:
        """Return seconds until the next try, never fewer than the service asks for; None: give up.

        Args:
            failure: What came of the last try.
            tried: How many tries there were before it.
        """
        if tried >= self.most:
            return None
        wait = _FIRST_WAIT * 2.0**tried
        match failure:
            case ServiceError(status=status, retry_after=retry_after) if status in _AGAIN:
                wait = max(wait, retry_after) if retry_after is not None else wait
            case UnreachableError(again=True):
                pass
            case _:
                return None
        # Those who were sent away together don't come back together.
        return None if wait > self.longest_wait else wait * random.uniform(1.0, 1.25)


def failure_of(response: httpx.Response) -> ServiceError | None:
    """Return the problem of an answer that has been read; None where it is none."""
    if response.is_success:
        return None
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    return ServiceError(response.status_code, body, _seconds(response.headers.get("retry-after")))


def unreachable(error: httpx.HTTPError, url: httpx.URL) -> UnreachableError:
    """Return what a failure of the connection means."""
    place = f"{url.scheme}://{url.netloc.decode()}"
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return UnreachableError(f"{place} did not answer in time", again=False)
    reason = str(error) or type(error).__name__
    return UnreachableError(
        f"{place} cannot be reached: {reason}", again=isinstance(error, httpx.TransportError)
    )


def answer_of(response: httpx.Response, schema: type[A]) -> A:
    """Return a good answer, typed.

    Raises:
        UnreachableError: Something else than the service has answered.
    """
    try:
        return schema.model_validate_json(response.content)
    except ValidationError:
        raise UnreachableError(
            f"{response.url} is not answered by this service: no {schema.__name__}", again=False
        ) from None


@dataclass(frozen=True)
class TextPiece:
    """A word of a continuation that is being generated.

    Attributes:
        index: Which of the continuations, from 0.
        text: What it goes on with.
    """

    index: int
    text: str


@dataclass
class EventParser:
    """Server-sent events (WHATWG HTML, 9.2.6), line by line."""

    _name: str = "message"
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> tuple[str, str] | None:
        """Return the name and data of the event that ends with this line, if one does."""
        if not line:
            name, data = self._name, self._data
            self._name, self._data = "message", []
            return (name, "\n".join(data)) if data else None
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "event":
            self._name = value
        elif key == "data":
            self._data.append(value)
        return None


def event_of(event: tuple[str, str]) -> TextPiece | GenerateResponse | None:
    """Return what an event of /generate says; None for one that this client does not know.

    Raises:
        ServiceError: That the generation has failed.
        UnreachableError: It is not what the service sends.
    """
    name, data = event
    try:
        if name == "text":
            return TextPiece(**orjson.loads(data))
        if name == "done":
            return GenerateResponse.model_validate_json(data)
        if name == "error":
            body = orjson.loads(data)
            raise ServiceError(int(body["status"]), body)
    except (ValueError, TypeError, KeyError):
        raise UnreachableError(f"The event {name} cannot be read", again=False) from None
    return None


class Page:
    """Some lines of a long list, and their rows as far as they are there."""

    def __init__(self, first: int, lines: list[bytes]) -> None:
        """Begin with the line of this number, from 1."""
        self._first, self._lines = first, lines
        self._rows: dict[int, bytes] = {}  # by place in the page

    def body(self) -> bytes:
        """Return the lines that have no row yet."""
        return b"".join(line + b"\n" for _, line in self._open())

    def take(self, answer: bytes) -> ClientError | None:
        """Keep the rows that are there; return what stands in the way of the others."""
        asked, rows = self._open(), answer.splitlines()
        if len(rows) != len(asked):
            return UnreachableError(f"{len(asked)} lines got {len(rows)} rows", again=True)
        failure = None
        for (place, _), row in zip(asked, rows, strict=True):
            try:
                content = orjson.loads(row)
                error = content.get("error")
                status = None if error is None else int(error["status"])
            except (ValueError, TypeError, KeyError, AttributeError):
                return UnreachableError("a row cannot be read", again=False)
            if status in _AGAIN:
                failure = ServiceError(status or 0, error)
                continue
            content["line"] = self._first + place
            self._rows[place] = orjson.dumps(content)
        return failure

    def rows(self) -> list[bytes]:
        """Return the rows, all of which must be there, without line ends."""
        return [self._rows[place] for place in range(len(self._lines))]

    def _open(self) -> list[tuple[int, bytes]]:
        return [(i, line) for i, line in enumerate(self._lines) if i not in self._rows]


class PageCutter:
    """Cuts lines into pages that the service takes whole."""

    def __init__(self, first: int = 1) -> None:
        """Begin with the line of this number."""
        self._first, self._size = first, 0
        self._lines: list[bytes] = []

    def add(self, line: bytes) -> Page | None:
        """Return the page that ends with this line, if one does.

        Raises:
            ValueError: The line contains a line break.
        """
        if b"\n" in line:
            raise ValueError("a line must not contain a line break")
        self._lines.append(line)
        self._size += len(line)
        full = len(self._lines) == _PAGE_LINES or self._size >= _PAGE_BYTES
        return self.finish() if full else None

    def finish(self) -> Page | None:
        """Return the page of the lines that are left, if any are."""
        if not self._lines:
            return None
        page = Page(self._first, self._lines)
        self._first += len(self._lines)
        self._lines, self._size = [], 0
        return page


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of Retry-After, which may be a date; None for what is neither."""
    if retry_after is None:
        return None
    if retry_after.isdecimal() and len(retry_after) < 10:
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown status"
