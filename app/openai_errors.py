"""Errors as OpenAI's clients expect them, on the routes that speak with these clients."""

from typing import Any

import orjson
from starlette.types import Message, Scope, Send

from app.errors import MEDIA_TYPE, STATUSES, problem
from models.errors import InvalidRequestError

PREFIX = "/v1/"
INVALID = 400  # what is 422 elsewhere
CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}

_UNPROCESSABLE = STATUSES[InvalidRequestError]
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def openai_error(content: dict[str, Any], *, found: bool) -> dict[str, Any]:
    """Say a problem (RFC 9457) as OpenAI does.

    Args:
        content: The problem.
        found: There is such a route; what is unknown is then the model.
    """
    status = content["status"]
    faults = content["errors"]
    message = " ".join(f"{fault['field']}: {fault['message']}." for fault in faults)
    unknown_model = status == 404 and found
    param = faults[0]["field"] if faults else "model" if unknown_model else None
    return {
        "error": {
            "message": message or content["detail"],
            "type": _TYPES.get(
                status, "server_error" if status >= 500 else "invalid_request_error"
            ),
            "param": param,
            "code": "model_not_found" if unknown_model else None,
        }
    }


def stream_error(error: Exception, request_id: str) -> dict[str, Any]:
    """Return what a stream that has begun says of an exception."""
    return openai_error(problem(error, request_id), found=True)


def in_their_words(scope: Scope, send: Send) -> Send:
    """Return ``send``, on OpenAI's routes saying every problem as OpenAI does."""
    if not scope["path"].startswith(PREFIX):
        return send
    held: Message | None = None

    async def send_error(message: Message) -> None:
        nonlocal held
        if message["type"] == "http.response.start":
            if dict(message["headers"]).get(b"content-type") == MEDIA_TYPE.encode():
                held = message
                return
        elif held is not None:
            content = orjson.loads(message["body"])
            message["body"] = orjson.dumps(openai_error(content, found="route" in scope))
            if held["status"] == _UNPROCESSABLE:
                held["status"] = INVALID
            changed = {
                b"content-type": b"application/json",
                b"content-length": b"%d" % len(message["body"]),
            }
            headers = [(name, changed.get(name, value)) for name, value in held["headers"]]
            await send({**held, "headers": headers})
            held = None
        await send(message)

    return send_error
