"""What a stream of /generate says."""

from dataclasses import dataclass, field

import orjson

from app.client.errors import ServiceError, UnreachableError
from app.schemas.responses import GenerateResponse


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
