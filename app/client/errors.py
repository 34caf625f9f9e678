"""How there may be no answer."""

from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from app.schemas.responses import FieldProblem
from models.errors import NextwordError


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


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown status"
