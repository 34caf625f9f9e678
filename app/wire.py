"""Bytes to JSON and back, so strictly that nothing a client sends can surprise what follows.

FastAPI's own reading of bodies is replaced for three reasons: it takes NaN and lone surrogates,
which then break its answer; it reads any size; and it ignores Content-Encoding.
"""

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from app.errors import (
    BodyTooLargeError,
    ClientGoneError,
    MalformedBodyError,
    UnsupportedMediaTypeError,
)


class Answer(JSONResponse):
    """JSON of plain values and dataclasses; a number that is not finite becomes null."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return orjson.dumps(content)


class _ParsedRequest(Request):
    """A request whose body has been read already."""

    def __init__(self, request: Request, raw: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._raw, self._value = raw, value

    async def body(self) -> bytes:
        return self._raw

    async def json(self) -> Any:
        return self._value


def json_route(max_body_bytes: int) -> type[APIRoute]:
    """Return the class of routes that read JSON bodies of at most this many bytes."""

    class JSONRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            if self.body_field is None:
                return handle

            async def parse(request: Request) -> Response:
                raw = await _read(request, max_body_bytes)
                return await handle(_ParsedRequest(request, raw, _parse(raw)))

            return parse

    return JSONRoute


async def _read(request: Request, max_body_bytes: int) -> bytes:
    media_type, _, _ = request.headers.get("content-type", "").partition(";")
    if media_type.strip().lower() != "application/json":
        raise UnsupportedMediaTypeError("Content-Type must be application/json.")
    if "content-encoding" in request.headers:
        raise UnsupportedMediaTypeError("The body must be sent without Content-Encoding.")
    too_large = BodyTooLargeError(f"The body must have at most {max_body_bytes} bytes.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and len(length) < 20 and int(length) > max_body_bytes:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_body_bytes:
                raise too_large
    except ClientDisconnect:
        raise ClientGoneError("The client has gone.") from None
    return bytes(body)


def _parse(raw: bytes) -> Any:
    # orjson refuses NaN, infinities, lone surrogates, invalid UTF-8 and nesting deeper than 1024.
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(
            f"The body is not JSON in valid Unicode: {error.msg} at character {error.pos}."
        ) from None
