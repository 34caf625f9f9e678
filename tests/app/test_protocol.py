"""HTTP on the socket: what a server meets, and a test client never sends."""

import socket
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.app.test_server import served, wait_for

BODY = b'{"text": "we", "top_k": 1}'
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP\r\n"
POST = b"POST /next-word HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: a\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)


@pytest.fixture(scope="module")
def address(models_dir, tmp_path_factory) -> Iterator[tuple[str, int]]:
    settings = {"MAX_TOKENS": "1000000", "MAX_CONTINUATIONS": "200"}
    folder = tmp_path_factory.mktemp("log")
    with served(models_dir, folder, **settings) as (process, client, _):
        wait_for(client, process, "/ready")
        yield client.base_url.host, client.base_url.port


@pytest.fixture
def connection(address) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=20) as connection:
        yield connection


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """The status and the body of the next answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1) or pytest.fail(f"closed behind {head!r}")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body)) or pytest.fail("closed")
    return int(head.split()[1]), body


def measured(address: tuple[str, int], name: str) -> float:
    """A measurement of the engine, for all models."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        _, text = answer(connection)
    return sum(
        sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    )


def flood(connection: socket.socket, piece: bytes) -> None:
    """Send until the server closes the connection, which it must."""
    try:
        for _ in range(1000):
            connection.sendall(piece)
    except OSError:
        return
    pytest.fail("the server takes everything")


def test_requests_follow_each_other(connection):
    for _ in range(3):
        connection.sendall(POST + LENGTH + BODY)
        status, body = answer(connection)
        assert (status, b"predictions" in body) == (200, True)
    connection.sendall((GET + b"\r\n") * 3)
    assert [answer(connection) for _ in range(3)] == [(200, b'{"status":"ok"}')] * 3


def test_an_answer_comes_in_one_piece(connection):
    for _ in range(5):
        connection.sendall(POST + LENGTH + BODY)
        head, _, body = connection.recv(1 << 16).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert len(body) == int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])


def test_answers_without_bodies_keep_their_order(connection):
    connection.sendall(GET.replace(b"GET", b"HEAD") + b"\r\n" + GET + b"\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 ")
    assert answer(connection) == (200, b'{"status":"ok"}')


@pytest.mark.parametrize("stream", [b"true", b"false"])
def test_work_ends_when_the_connection_is_closed(address, stream):
    body = b'{"text": "we", "strategy": "sample", "n": 200, "max_tokens": 1000000, "stream": %b}'
    body %= stream
    dropped = measured(address, "nextword_dropped_total")
    with socket.create_connection(address, timeout=20) as connection:
        head = POST.replace(b"next-word", b"generate") + b"Content-Length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body)
        assert any(measured(address, "nextword_running_items") for _ in range(1000))
    assert any(measured(address, "nextword_running_items") == 0 for _ in range(1000))
    assert measured(address, "nextword_dropped_total") == dropped + 1


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_an_offer_to_go_on_in_another_protocol_loses_nothing(connection, size):
    """Java's client offers HTTP/2 with its requests, however they are cut into packets."""
    sent = POST + OFFER + LENGTH + BODY + GET + OFFER + b"\r\n" + POST + LENGTH + BODY
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in range(0, len(sent), size):
        connection.sendall(sent[i : i + size])
    first, health, last = (answer(connection) for _ in range(3))
    assert first == last
    assert (first[0], b"predictions" in first[1]) == (200, True)
    assert health == (200, b'{"status":"ok"}')


@pytest.mark.parametrize(
    "wrong",
    [
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        GET + b"Content-Length: x\r\n\r\n",
        GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_request_for_this_server_is_400(connection, wrong):
    connection.sendall(wrong)
    assert answer(connection)[0] == 400
    assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /",
        GET + b"X: ",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1a\r\n" + BODY + b"\r\n0\r\nX: ",
        POST + OFFER + b"X: ",
    ],
    ids=["path", "header", "trailer", "offer"],
)
def test_a_head_has_an_end(connection, begun):
    connection.sendall(begun)
    flood(connection, b"a" * 10_000)


def test_many_headers_are_one_head(connection):
    connection.sendall(GET)
    flood(connection, b"X: a\r\n" * 1000)


def test_a_body_in_small_pieces_is_no_head(connection):
    text = b'{"text": "' + b"a" * 2000 + b'", "top_k": 1}'
    chunks = b"".join(b"1;%b\r\n%c\r\n" % (b"e" * 60, byte) for byte in text)
    connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert answer(connection)[0] == 200


def test_a_stream_both_ways_tells_its_client_to_go_on(connection):
    head = b"POST /score/bulk HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n"
    connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: 15\r\n\r\n")
    told = b""
    while b"\r\n\r\n" not in told:
        told += connection.recv(1)
    assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(b'{"text": "we"}\n')
    received = b""
    while not received.endswith(b"\r\n0\r\n\r\n"):
        received += connection.recv(1 << 16) or pytest.fail("closed")
    assert received.startswith(b"HTTP/1.1 200")
    assert b'"log_prob":' in received
