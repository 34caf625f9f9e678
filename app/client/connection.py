"""Where the service is, and what it or its absence says, typed."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import orjson
from pydantic import BaseModel, ValidationError

from app.client.errors import ClientError, ServiceError, UnreachableError

A = TypeVar("A", bound=BaseModel)

URL = "http://127.0.0.1:8000"
TIMEOUT = 75.0  # seconds; the service gives up after 60, unless it is set otherwise

_CONNECT = 10.0  # seconds


def connection(url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    """Return the options of an HTTP client.

    Raises:
        ClientError: The key cannot be sent; the message does not quote it.
    """
    return {
        "base_url": url,
        "timeout": httpx.Timeout(timeout, connect=min(timeout, _CONNECT)),
        "headers": {} if api_key is None else {"authorization": f"Bearer {_checked(api_key)}"},
    }


def _checked(api_key: str) -> str:
    """Return a key without the line break that reading a file leaves at its end."""
    key = api_key.strip()
    if not (key and key.isascii() and key.isprintable()):
        raise ClientError("The API key must be printable ASCII, and not empty.")
    return key


def broken(response: httpx.Response) -> UnreachableError:
    """Return what it means that a stream ended too early."""
    return UnreachableError(f"{response.url}: the stream ended before the answer", again=False)


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
    ours = isinstance(error, (httpx.LocalProtocolError, httpx.UnsupportedProtocol))
    again = isinstance(error, httpx.TransportError) and not ours
    return UnreachableError(f"{place} cannot be reached: {reason}", again=again)


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


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of Retry-After, which may be a date; None for what is neither."""
    if retry_after is None:
        return None
    if retry_after.isdecimal() and len(retry_after) < 10:
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):  # of a day, or hour, that is out of bounds
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
