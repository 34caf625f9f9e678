"""What a stream of /generate says."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from app.client.errors import ServiceError, UnreachableError
from app.schemas.responses import GenerateResponse

_LINE_END = re.compile(rb"\r\n|[\r\n]")


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
    """Server-sent events (WHATWG HTML, 9.2.6), from bytes as they arrive.

    Lines end with LF, CR or both, and with nothing else that Unicode knows as the end of a line.
    """

    _begun: bytearray = field(default_factory=bytearray)
    _after_cr: bool = False  # an LF that comes next ends no other line
    _name: str = "message"
    _data: list[str] = field(default_factory=list)

    def feed(self, data: bytes) -> Iterator[tuple[str, str]]:
        """Yield the name and data of each event that ends in these bytes."""
        for line in self._lines(data):
            if not line:
                name, said = self._name, self._data
                self._name, self._data = "message", []
                if said:
                    yield name, "\n".join(said)
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if key == "event":
                self._name = value
            elif key == "data":
                self._data.append(value)

    def _lines(self, data: bytes) -> Iterator[str]:
        if not data:
            return
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        begun, *following = _LINE_END.split(data)
        self._begun += begun
        for piece in following:
            line = self._begun.decode(errors="replace")
            self._begun = bytearray(piece)
            yield line


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
