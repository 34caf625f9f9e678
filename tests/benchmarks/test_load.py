"""The clients, against a server that answers what a test tells it to."""

import asyncio
from collections.abc import Callable
from itertools import repeat

import pytest

from benchmarks.connection import Connection
from benchmarks.load import AnswerError, clients, run_clients
from benchmarks.requests import HEALTH, post


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def against(parts: Callable[[int], list[bytes]], work):
    """Run ``work(port)`` against a server that sends ``parts(n)`` for its n-th request."""

    async def serve():
        number = 0
        handling = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal number
            handling.add(asyncio.current_task())
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                    await reader.readexactly(int(length or 0))
                    number += 1
                    for part in parts(number):
                        writer.write(part)
                        await writer.drain()
                        await asyncio.sleep(0.001)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # the client is done
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        try:
            return await work(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            await asyncio.wait_for(asyncio.gather(*handling), 5)

    return run_clients(serve())


def is_ok(body: bytes) -> bool:
    return body == b"ok"


def test_every_client_goes_through_its_script_though_answers_come_in_parts():
    whole = answer(b"ok")
    scripts = [[HEALTH] * 3, [post("/score", {"text": "a"})] * 2]
    answers = against(
        lambda n: [whole[: 5 * n], whole[5 * n :]], lambda port: clients(port, scripts, is_ok)
    )
    assert len(answers.latencies) == len(answers.moments) == 5
    assert answers.size == 10
    assert min(answers.latencies) > 0


def test_clients_stop_when_the_time_is_over():
    answers = against(
        lambda _: [answer(b"ok")],
        lambda port: clients(port, [repeat(HEALTH)], is_ok, seconds=0.1, pause=0.01),
    )
    assert 2 <= len(answers.latencies) <= 10


@pytest.mark.parametrize(
    "wrong", [answer(b"ok", "500 No"), answer(b"bad"), b"HTTP/1.1 200\r\n\r\n"]
)
def test_a_wrong_answer_is_an_error(wrong: bytes):
    with pytest.raises(ExceptionGroup) as caught:
        against(lambda _: [wrong], lambda port: clients(port, [[HEALTH]], is_ok, patience=5))
    assert caught.group_contains(AnswerError)


def test_a_connection_takes_chunks_and_lengths_and_can_hang_up():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"

    async def work(port: int):
        connection = await Connection.open(port)
        first = await connection.ask(HEALTH)
        second = await connection.ask(HEALTH)
        assert connection.usable
        await connection.close()
        assert not connection.usable
        return first.body, second.status

    assert against(lambda n: [chunked if n == 1 else answer(b"no", "404 Not Found")], work) == (
        b"abc",
        404,
    )
