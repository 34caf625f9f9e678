"""Both clients against services that are busy, gone, or something else."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from app.client import AsyncClient, Client, ClientError, Retries, ServiceError, UnreachableError
from tests.app.client.scripted import STATUS, problem, scripted


def ready(
    handler: Callable[[httpx.Request], httpx.Response], *, use_async: bool, **options: Any
) -> Any:
    transport = httpx.MockTransport(handler)
    if not use_async:
        with Client(transport=transport, **options) as client:
            return client.ready()

    async def ask() -> Any:
        async with AsyncClient(transport=transport, **options) as client:
            return await client.ready()

    return asyncio.run(ask())


both = pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])


@both
def test_it_waits_as_long_as_it_is_told_and_not_much_longer(waits, use_async):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=9), usegmt=True)
    script = scripted(
        problem(429, retry_after="7"),
        problem(503, retry_after=soon),
        problem(503),
        httpx.ConnectError("refused"),
        httpx.Response(200, json=STATUS),
    )
    assert ready(script, use_async=use_async).models == ["m"]
    assert 7 <= waits[0] <= 7 * 1.25
    assert 7 <= waits[1] <= 9 * 1.25
    assert 1 <= waits[2] <= 1.25
    assert 2 <= waits[3] <= 2.5


@both
def test_tries_are_bounded(waits, use_async):
    script = scripted(*[problem(503) for _ in range(3)])
    with pytest.raises(ServiceError, match="503 Busy: Full") as raised:
        ready(script, use_async=use_async, retries=Retries(most=2))
    assert len(waits) == 2
    assert raised.value.retry_after is None


@both
def test_who_is_sent_away_for_long_is_told(waits, use_async):
    with pytest.raises(ServiceError) as raised:
        ready(scripted(problem(429, retry_after="3600")), use_async=use_async)
    assert raised.value.retry_after == 3600
    assert waits == []


@both
@pytest.mark.parametrize(
    "answer",
    [
        problem(401),
        problem(500),
        httpx.Response(502, text="<html>"),
        httpx.Response(400, json=[1]),
        httpx.Response(404, json={"errors": [3], "title": None}),
        httpx.Response(599, json={"errors": 3}),
    ],
    ids=lambda answer: str(answer.status_code),
)
def test_what_will_not_change_is_not_asked_again(waits, use_async, answer):
    with pytest.raises(ServiceError) as raised:
        ready(
            scripted(httpx.Response(answer.status_code, content=answer.content)),
            use_async=use_async,
        )
    assert raised.value.status == answer.status_code
    assert str(raised.value).startswith(str(answer.status_code))
    assert waits == []


@both
@pytest.mark.parametrize(
    "value",
    [
        f"Sun, {10**20} Nov 2026 08:49:37 GMT",
        "Sun, 99 Nov 2026 08:49:37 GMT",
        "Sun, 06 Nov 2026 08:49:37 +9999999999999999999999",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "9" * 400,
        "-1",
        "soon",
    ],
)
def test_a_retry_after_that_cannot_be_read_is_as_good_as_none(waits, use_async, value):
    script = scripted(problem(429, retry_after=value), httpx.Response(200, json=STATUS))
    assert ready(script, use_async=use_async).models == ["m"]
    assert waits[0] < 1


@both
def test_something_else_than_the_service_is_an_error(waits, use_async):
    with pytest.raises(UnreachableError, match="not answered by this service"):
        ready(scripted(httpx.Response(200, text="hello")), use_async=use_async)
    with pytest.raises(UnreachableError, match="did not answer in time"):
        ready(scripted(httpx.ReadTimeout("slow")), use_async=use_async)
    assert waits == []


def test_nobody_there_is_an_error_after_all_tries(waits):
    with (
        Client("http://127.0.0.1:9", retries=Retries(most=3)) as client,
        pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:9 cannot be reached"),
    ):
        client.ready()
    assert len(waits) == 3


@both
def test_the_key_is_a_bearer_token(use_async):
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json=STATUS)

    ready(answer, use_async=use_async, api_key="k")
    ready(answer, use_async=use_async)
    assert seen == ["Bearer k", None]
    ready(answer, use_async=use_async, api_key="k\r\n")
    assert seen[-1] == "Bearer k"


@both
@pytest.mark.parametrize("key", ["SECRET\nSECRET", "SECR\u00c9T", "SECRET\x7f", "\n", ""])
def test_a_key_that_cannot_be_sent_is_an_error_that_does_not_tell_it(use_async, key):
    with pytest.raises(ClientError, match="must be printable ASCII") as raised:
        ready(scripted(), use_async=use_async, api_key=key)
    assert "SECR" not in str(raised.value)


@both
@pytest.mark.parametrize(
    "error", [httpx.LocalProtocolError("header"), httpx.UnsupportedProtocol("scheme")]
)
def test_what_is_wrong_on_our_side_is_not_tried_again(waits, use_async, error):
    with pytest.raises(UnreachableError):
        ready(scripted(error), use_async=use_async)
    assert waits == []


@both
@pytest.mark.parametrize(
    "error", [httpx.ReadError("reset"), httpx.RemoteProtocolError("gone"), httpx.ProxyError("503")]
)
def test_what_may_be_the_networks_fault_is_tried_again(waits, use_async, error):
    script = scripted(error, httpx.Response(200, json=STATUS))
    assert ready(script, use_async=use_async).models == ["m"]
    assert len(waits) == 1
