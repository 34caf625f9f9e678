"""What can go wrong with a request, and the one table from exception to HTTP status.

::

    NextwordError                  (models.errors)
    ├── MalformedBodyError         not JSON, or not Unicode
    ├── UnauthorizedError          no API key, or none that is known
    ├── ForbiddenError             a key of a role that may not do this
    ├── MisdirectedError           meant for another host
    ├── BodyTooLargeError          more bytes than are taken
    ├── UnsupportedMediaTypeError  not uncompressed application/json
    ├── BusyError                  the queue is full; says when to come again
    │   └── RateLimitedError       this client has had its share of the minute
    ├── DeadlineError              the answer took longer than may be waited for
    ├── NotReadyError              no model is loaded yet, or not any more
    ├── ReloadError                a checkpoint cannot take the place of the loaded one
    └── ClientGoneError            nobody is waiting for the answer
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from app.schemas.requests import MANY, ONE
from models.errors import InvalidRequestError, NextwordError, UnknownModelError

MEDIA_TYPE = "application/problem+json"
CLIENT_GONE = 499  # nginx's; nobody receives it, but the log shows it
_PLAINER = {
    "extra_forbidden": "Unknown field",
    "model_type": "Input should be an object",
}
_RETRY_AFTER = {
    "description": "Whole seconds after which there may be room.",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
_CHALLENGE = {
    "description": "How to show who asks.",
    "required": True,
    "schema": {"type": "string"},
}
# To tell each fault takes as long as a keystroke's answer when there are a thousand.
_MOST_FAULTS = 1000
_MOST_FIELDS = 20  # faults that one answer lists
_LONGEST_FIELD = 100  # characters; the name of an unknown field is the client's


class MalformedBodyError(NextwordError):
    """The body is not JSON, or it or the query is not valid Unicode."""


class UnauthorizedError(NextwordError):
    """There is no API key, or none that is known.

    Attributes:
        challenge: Value of the header WWW-Authenticate.
    """

    def __init__(self, message: str, challenge: str) -> None:
        """Say why, and how a client shows who it is."""
        super().__init__(message)
        self.challenge = challenge


class ForbiddenError(NextwordError):
    """The client is known, and may not do this."""


class MisdirectedError(NextwordError):
    """The request is meant for a host that this service does not answer for."""


class BodyTooLargeError(NextwordError):
    """The body has more bytes than are taken."""


class UnsupportedMediaTypeError(NextwordError):
    """The body is not uncompressed JSON."""


class NotReadyError(NextwordError):
    """There is no model to answer: still loading, none could be loaded, or shutting down."""


class ReloadError(NextwordError):
    """A checkpoint cannot be loaded; what was loaded before goes on. The message says why."""


class BusyError(NextwordError):
    """The queue is full.

    Attributes:
        retry_after: Whole seconds after which there may be room.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        """Say why, and when to come again."""
        super().__init__(message)
        self.retry_after = retry_after


class RateLimitedError(BusyError):
    """The client has asked for as much as it may in a minute."""


class DeadlineError(NextwordError):
    """The answer took longer than anybody is made to wait."""


class ClientGoneError(NextwordError):
    """The client has closed the connection."""


STATUSES: dict[type[Exception], int] = {
    MalformedBodyError: 400,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    UnknownModelError: 404,
    ReloadError: 409,
    BodyTooLargeError: 413,
    UnsupportedMediaTypeError: 415,
    MisdirectedError: 421,
    InvalidRequestError: 422,
    RequestValidationError: 422,
    BusyError: 429,
    ClientGoneError: CLIENT_GONE,
    DeadlineError: 503,
    NotReadyError: 503,
}
# Whatever else is raised is a bug.
HANDLED: tuple[type[Exception], ...] = (*STATUSES, HTTPException)
_ROUTING = {
    404: "There is nothing at this path; /docs lists what there is.",
    405: "This path takes other methods; the header Allow lists them.",
}


def invalid(error: ValidationError, what: str) -> RequestValidationError:
    """Return a fault as FastAPI would have told it, so that one table answers both.

    Args:
        error: What the check says.
        what: Was checked: a ``body``, or a ``line`` of one.
    """
    if (count := error.error_count()) > _MOST_FAULTS:
        fault = {"type": "too_many_faults", "loc": (what,), "msg": f"{count} fields are wrong"}
        return RequestValidationError([fault])
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return RequestValidationError([{**fault, "loc": (what, *fault["loc"])} for fault in faults])


def problem(error: Exception, request_id: str) -> dict[str, Any]:
    """Return the problem details (RFC 9457) of any exception."""
    detail = str(error)
    errors: list[dict[str, str]] = []
    match error:
        case HTTPException():
            status = error.status_code
            detail = _ROUTING.get(status, error.detail)
        case RequestValidationError():
            status = STATUSES[RequestValidationError]
            errors = [_field_problem(fault) for fault in error.errors()[:_MOST_FIELDS]]
            detail = "The request has fields that cannot be used."
        case InvalidRequestError():
            status = STATUSES[InvalidRequestError]
            errors = [{"field": error.field, "message": error.message}]
        case _:
            status = next((STATUSES[t] for t in type(error).__mro__ if t in STATUSES), 500)
    if status == 500:
        detail = "Something went wrong here; the log knows more under this request's id."
    return {
        "type": "about:blank",
        "title": "Client Closed Request" if status == CLIENT_GONE else HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": errors,
        "request_id": request_id,
    }


def problem_response(error: Exception, request_id: str) -> Response:
    """Return the answer to a request that ended in ``error``."""
    content = problem(error, request_id)
    headers = error.headers if isinstance(error, HTTPException) else None
    if isinstance(error, BusyError):
        headers = {"Retry-After": str(error.retry_after)}
    elif isinstance(error, UnauthorizedError):
        headers = {"WWW-Authenticate": error.challenge}
    return Response(orjson.dumps(content), content["status"], headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every exception with problem details; one that is not in the table is a bug."""

    async def handle(request: Request, error: Exception) -> Response:
        return problem_response(error, request.state.request_id)

    for exception in (*HANDLED, Exception):
        app.add_exception_handler(exception, handle)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare problems for OpenAPI."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    declared: dict[int | str, dict[str, Any]] = {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }
    if busy := declared.get(STATUSES[BusyError]):
        busy["headers"] = {"Retry-After": _RETRY_AFTER}
    if unauthorized := declared.get(STATUSES[UnauthorizedError]):
        unauthorized["headers"] = {"WWW-Authenticate": _CHALLENGE}
    return declared


def _field_problem(fault: dict[str, Any]) -> dict[str, str]:
    """Name the field and the fault, and leave out the value, which pydantic reports too."""
    message = _PLAINER.get(fault["type"], fault["msg"])
    return {"field": _field(fault["loc"])[:_LONGEST_FIELD], "message": message}


def _field(location: Sequence[str | int]) -> str:
    parts = [str(part) for part in location[1:] if part not in (ONE, MANY)]
    return ".".join(parts) or "body"
