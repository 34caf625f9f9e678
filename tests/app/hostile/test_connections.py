"""Connections that stall, go, lie or are too many, on a running service."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.app.hostile.bodies import CANARY
from tests.app.test_server import served, wait_for

GET = b"GET /health HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /next-word HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
BODY = b'{"text": "we", "top_k": 1}'
WHOLE = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MOST = 30  # connections
PATIENCE = 20  # seconds that a test waits, on a machine that others use too


@pytest.fixture(scope="module")
def running(models_dir, tmp_path_factory) -> Iterator[tuple]:
    """A service that is soon out of patience: its client and its log."""
    settings = {"HEAD_SECONDS": "1", "BODY_SECONDS": "1.5", "SEND_SECONDS": "1.5"}
    settings |= {"MAX_CONNECTIONS": str(MOST), "MAX_TOKENS": "1000000", "MAX_BODY_BYTES": "100000"}
    settings |= {"MAX_CONTINUATIONS": "500"}
    with served(models_dir, tmp_path_factory.mktemp("log"), **settings) as (process, client, log):
        wait_for(client, process, "/ready")
        client.close()  # so that none of the connections is its own
        yield client.base_url, log


@pytest.fixture
def address(running) -> Iterator[tuple[str, int]]:
    """Where it listens; it must answer as quickly as ever afterwards."""
    url, log = running
    yield url.host, url.port
    deadline = time.monotonic() + PATIENCE
    while not quick((url.host, url.port)):
        assert time.monotonic() < deadline, "slow or silent afterwards"
    assert [line for line in log.read_text().splitlines() if '"bug"' in line] == []


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=PATIENCE)


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    try:
        while part := connection.recv(1 << 16):
            received += part
    except ConnectionResetError:
        pass
    return received


def quick(address: tuple[str, int]) -> bool:
    try:
        started = time.monotonic()
        answer = httpx.post(f"http://{address[0]}:{address[1]}/next-word", json={"text": "we"})
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and time.monotonic() - started < 0.5


def status_of(answer: bytes) -> int:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if status >= 400:
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == status
        assert b"connection: close" in head
    return status


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"\r\n", None),
        (b"G", 408),
        (b"GET /health HTTP/1.1\r\n", 408),
        (GET + b"X-Slow: ", 408),
        (POST + b"Content-Length: 100\r\n\r\n", 408),
        (POST + b"Content-Length: 100\r\n\r\n" + BODY, 408),
        (CHUNKED, 408),
        (CHUNKED + b"5\r\n{", 408),
        (CHUNKED + b"1\r\n{\r\n0\r\nX: ", 408),
        (POST + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n", 408),
    ],
)
def test_who_stops_halfway_is_cut_off(address, sent, status):
    started = time.monotonic()
    with connect(address) as connection:
        connection.sendall(sent)
        answer = everything(connection).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert 0.8 < time.monotonic() - started < PATIENCE
    assert (status_of(answer) if answer else None) == status


@pytest.mark.parametrize("begin", [b"GET /health HTTP/1.1\r\nX: ", CHUNKED, b"\r\n"])
def test_who_sends_a_byte_now_and_then_is_cut_off(address, begin):
    """Slowloris: progress that is none."""
    piece = b"1\r\n \r\n" if begin == CHUNKED else b"\r\n" if begin == b"\r\n" else b"a"
    with connect(address) as connection:
        connection.sendall(begin)
        send_until_closed(connection, piece)


def test_a_kept_connection_is_cut_off_too(address):
    with connect(address) as connection:
        connection.sendall(WHOLE)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /hea")
        assert b"408" in everything(connection)


def test_a_refused_request_whose_body_never_ends_is_cut_off(address):
    with connect(address) as connection:
        connection.sendall(CHUNKED.replace(b"application/json", b"text/plain"))
        assert b"415" in connection.recv(1 << 16)
        send_until_closed(connection, b"3e8\r\n" + b" " * 1000 + b"\r\n")


def test_a_stream_both_ways_that_falls_silent_is_cut_off(address, running):
    head = CHUNKED.replace(b"/next-word", b"/score/bulk").replace(b"json", b"x-ndjson")
    line = b'{"text": "we"}\n'
    with connect(address) as connection:
        connection.sendall(head + b"%x\r\n%b\r\n" % (len(line), line))
        started = time.monotonic()
        answer = everything(connection)
    assert 0.8 < time.monotonic() - started < PATIENCE
    assert b'"log_prob":' in answer
    assert not answer.endswith(b"0\r\n\r\n")  # whoever reads sees that this is no end
    assert "ASGI callable" not in running[1].read_text()


def test_a_slow_answer_is_nobodys_fault(address):
    """Nobody is cut off while the service works, nor what waits behind it."""
    body = b'{"text": "we", "strategy": "sample", "temperature": 100, "n": 200, "max_tokens": 3000}'
    head = POST.replace(b"next-word", b"generate")
    with connect(address) as connection:
        connection.settimeout(60)
        started = time.monotonic()
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body + GET)
        answer = connection.recv(1 << 16)
        seconds = time.monotonic() - started
        assert answer.startswith(b"HTTP/1.1 200")
        assert seconds > 1, "too quick an answer to say anything"


def test_who_does_not_read_is_cut_off(address):
    """However much the kernel takes on its behalf."""
    requests = 4000
    with asking(address, requests) as (connection, sending):
        sending.join(PATIENCE)
        time.sleep(4)
        received = everything(connection)
        sending.join(PATIENCE)
        assert not sending.is_alive()
    assert 0 < received.count(b"HTTP/1.1 200") < requests


def test_who_reads_slowly_is_not(address):
    """Much longer than the bound, and slower than the kernel shows by itself."""
    requests = 200
    with asking(address, requests) as (connection, sending):
        received = bytearray()
        started = time.monotonic()
        while time.monotonic() - started < 6:
            received += connection.recv(4096)
            time.sleep(0.05)
        while received.count(b"HTTP/1.1 200") < requests:
            received += connection.recv(1 << 16) or pytest.fail("cut off")
        sending.join(PATIENCE)
        assert not sending.is_alive()


@contextlib.contextmanager
def asking(
    address: tuple[str, int], requests: int
) -> Iterator[tuple[socket.socket, threading.Thread]]:
    """Somebody who asks for much, and for whom the kernel takes little."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE)
        connection.connect(address)
        sending = threading.Thread(target=send_all, args=(connection, requests))
        sending.start()
        yield connection, sending


def send_all(connection: socket.socket, requests: int) -> None:
    with contextlib.suppress(OSError):  # cut off already
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * requests)


def send_until_closed(connection: socket.socket, piece: bytes) -> None:
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE:
        try:
            connection.sendall(piece)
        except OSError:
            return
        time.sleep(0.1)
    pytest.fail("the server goes on waiting")


def test_no_more_connections_than_allowed(address):
    idle = [connect(address) for _ in range(MOST)]
    try:
        time.sleep(0.2)
        with connect(address) as connection:
            answer = everything(connection)
        assert status_of(answer) == 503
        assert b"retry-after: 1\r\n" in answer
    finally:
        for connection in idle:
            connection.close()


def test_a_crowd_that_goes_leaves_nothing_behind(address):
    def come_and_go() -> None:
        for sent in (b"", b"GET", POST, WHOLE, CHUNKED + b"5\r\n{", WHOLE[:-3]) * 5:
            with connect(address) as connection:
                connection.sendall(sent)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("path", ["/next-word", "/score", "/rank", "/generate", "/tokenize"])
def test_a_chunked_body_without_length_is_bounded(address, path):
    with connect(address) as connection:
        connection.sendall(CHUNKED.replace(b"/next-word", path.encode()))
        connection.sendall(b"186a1\r\n" + b" " * 100_001 + b"\r\n")
        answer = connection.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "wrong",
    [
        CANARY.encode() + b"\r\n\r\n",
        b"GET /" + CANARY.encode() + b" HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nX\x00Y: " + CANARY.encode() + b"\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"fffffffffffffffff\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes(range(256)),
    ],
)
def test_what_is_no_http_is_400(address, running, wrong):
    with connect(address) as connection:
        connection.sendall(wrong)
        answer = everything(connection)
    statuses = {int(part.split()[0]) for part in answer.split(b"HTTP/1.1 ")[1:]}
    assert statuses, "no answer at all"
    assert all(400 <= status < 500 for status in statuses)
    assert CANARY.encode() not in answer
    assert CANARY not in running[1].read_text()


@pytest.mark.parametrize(
    "target", ["*", "/\u00e9", "http://b/health", "/%00%ff", "?", "//", "/a b"]
)
def test_an_odd_target_is_no_bug(address, target):
    with connect(address) as connection:
        connection.sendall(b"OPTIONS %b HTTP/1.1\r\nHost: a\r\n\r\n" % target.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1 << 16)
    assert answer == b"" or 200 <= int(answer.split()[1]) < 500


@pytest.mark.parametrize("sent", ["x" * 65, "a b", CANARY + "\u00e9", "<script>", "../x", ""])
def test_an_unfit_request_id_is_replaced_and_not_repeated(address, sent):
    with connect(address) as connection:
        connection.sendall(
            GET + b"X-Request-ID: " + sent.encode() + b"\r\nConnection: close\r\n\r\n"
        )
        answer = everything(connection)
    (made,) = [line for line in answer.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert len(made) == len("x-request-id: ") + 32
    assert sent.encode() == b"" or sent.encode() not in answer
