"""Bytes to JSON and back, so strictly that nothing a client sends can surprise what follows.

FastAPI's own reading of bodies is replaced for three reasons: it takes NaN and lone surrogates,
which then break its answer; it reads any size; and it ignores Content-Encoding.
"""

import asyncio
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.errors import (
    BodyTooLargeError,
    ClientGoneError,
    MalformedBodyError,
    UnsupportedMediaTypeError,
)

_JSON = b"application/json"
_AT_ONCE = 1 << 16  # bytes that are written without a pause: some two milliseconds


class Answer(Response):
    """JSON of plain values and dataclasses; a number that is not finite becomes null."""

    media_type = _JSON.decode()

    def __init__(self, content: Any, body: bytes | None = None) -> None:
        """Write ``content``, unless it is written as ``body``; the headers are just two."""
        self.status_code = 200
        self.background = None
        self.body = orjson.dumps(content) if body is None else body
        self.raw_headers = [
            (b"content-length", b"%d" % len(self.body)),
            (b"content-type", _JSON),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


async def long_answer(content: dict[str, Any], name: str) -> Answer:
    """Return ``Answer(content)``, and let others go on while it writes the list ``name``."""
    fields = []
    for key, value in content.items():
        written = await _list(value) if key == name else orjson.dumps(value)
        fields.append(b"%b:%b" % (orjson.dumps(key), written))
    return Answer(content, b"{%b}" % b",".join(fields))


async def _list(values: list[Any]) -> bytes:
    items: list[bytes] = []
    size = 0
    for value in values:
        items.append(orjson.dumps(value))
        size += len(items[-1])
        if size > _AT_ONCE:
            size = 0
            await asyncio.sleep(0)
    return b"[%b]" % b",".join(items)


async def read_json(request: Request, max_bytes: int) -> Any:
    """Return the value of a request's body.

    Raises:
        UnsupportedMediaTypeError: It does not say that it is plain JSON.
        BodyTooLargeError: It has more than ``max_bytes`` bytes, whatever it says it has.
        MalformedBodyError: It is not JSON, or not Unicode.
        ClientGoneError: The client went while it was being read.
    """
    _check_headers(request.scope, max_bytes)
    return _parse(await _read(request.receive, max_bytes))


def _check_headers(scope: Scope, max_bytes: int) -> None:
    media_type = length = None
    encoded = False
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = value if media_type is None else media_type
        elif name == b"content-length":
            length = value if length is None else length
        elif name == b"content-encoding":
            encoded = True
    if media_type != _JSON and not _is_json(media_type):
        raise UnsupportedMediaTypeError("Content-Type must be application/json.")
    if encoded:
        raise UnsupportedMediaTypeError("The body must be sent without Content-Encoding.")
    if length is not None and length.isdigit() and len(length) < 20 and int(length) > max_bytes:
        raise _too_large(max_bytes)


def _is_json(media_type: bytes | None) -> bool:
    return media_type is not None and media_type.partition(b";")[0].strip().lower() == _JSON


async def _read(receive: Receive, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("The client has gone.")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return part if len(parts) == 1 else b"".join(parts)


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body must have at most {max_bytes} bytes.")


def _parse(raw: bytes) -> Any:
    # orjson refuses NaN, infinities, lone surrogates, invalid UTF-8 and nesting deeper than 1024.
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(
            f"The body is not JSON in valid Unicode: {error.msg} at character {error.pos}."
        ) from None
