"""A row for every line, in order, whatever the lines are and however they come and go."""

import asyncio
import itertools
import json
import signal
import threading
import time
from pathlib import Path

import orjson
import pytest
import structlog
from fastapi.testclient import TestClient

from app.application import create_app
from app.settings import Settings
from models.language_model import LanguageModel
from tests.app.bulk.duplex import Duplex
from tests.app.caller import Caller, ready_app
from tests.app.conftest import SUBWORD, WORD, sentences, wait_until_ready
from tests.app.test_disconnect import settled
from tests.app.test_server import served, wait_for

NDJSON = {"content-type": "application/x-ndjson"}


def ask(client: TestClient, *lines: object) -> list[dict]:
    """The rows of lines, given as bytes or as what is dumped."""
    raw = [line if isinstance(line, bytes) else orjson.dumps(line) for line in lines]
    response = client.post("/score/bulk", content=b"\n".join(raw), headers=NDJSON)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["x-request-id"]
    rows = [json.loads(row) for row in response.text.splitlines()]
    assert [row["line"] for row in rows] == list(range(1, len(raw) + 1))
    return rows


@pytest.mark.parametrize(
    "options",
    [{}, {"context": "so"}, {"bos": False}, {"eos": False}, {"tokens": True}, {"model": WORD}],
    ids=str,
)
def test_a_row_has_the_numbers_of_score(client: TestClient, options):
    texts = [*sentences(70), "", "ä\n✓", "we sold zzz"]
    rows = ask(client, *({"id": i, "text": text, **options} for i, text in enumerate(texts)))
    answer = client.post("/score", json={"text": texts, **options}).json()
    for i, (row, result) in enumerate(zip(rows, answer["results"], strict=True)):
        del result["text"]
        assert row == {"id": i, "line": i + 1, "model": answer["model"], **result}


BAD = [
    (b"", 400, None),
    (b"nope", 400, None),
    (b'{"text": "\xff"}', 400, None),
    (b'{"text": "\\ud800"}', 400, None),
    (b'{"text": NaN}', 400, None),
    (b"[" * 5000, 400, None),
    (b"[1]", 422, "body"),
    ({"id": "mine"}, 422, "text"),
    ({"id": "mine", "text": 3}, 422, "text"),
    ({"id": "mine", "text": ["a", "b"]}, 422, "text"),
    ({"id": "mine", "text": "a" * 2001}, 422, "text"),
    ({"id": "mine", "text": "a", "bos": 1}, 422, "bos"),
    ({"id": "mine", "text": "a", "temperature": 2}, 422, "temperature"),
    ({"id": True, "text": "a"}, 422, "id"),
    ({"id": "i" * 256, "text": "a"}, 422, "id"),
    (b'{"id": 9223372036854775808, "text": "a"}', 422, "id"),
    ({"id": "mine", "text": "a", "model": "nobody"}, 404, None),
    (orjson.dumps({"text": "SECRET " * 20_000}), 413, None),
]


def test_of_a_thousand_faults_only_the_number_is_told(client: TestClient):
    """To tell each of 110,000, which fit into a line, would keep everybody waiting for a second."""
    line = {f"unknown{i}": 1 for i in range(1001)}
    answers = [client.post("/score", json={"text": "we"} | line).json()]
    answers += [row["error"] for row in ask(client, {"text": "we"} | line)]
    for answer in answers:
        assert answer["status"] == 422
        assert answer["errors"] == [{"field": "body", "message": "1001 fields are wrong"}]


def test_a_bad_line_has_a_row_of_its_own_and_the_others_go_on(client: TestClient):
    good = {"id": "good", "text": "we sold coffee."}
    lines = [line for bad, _, _ in BAD for line in (good, bad)] + [good]
    with structlog.testing.capture_logs() as logged:
        rows = ask(client, *lines)
    log_probs = {row["log_prob"] for row in rows[::2]}
    assert len(log_probs) == 1
    for (line, status, field), row in zip(BAD, rows[1::2], strict=True):
        assert row["error"]["status"] == status, line
        assert [error["field"] for error in row["error"]["errors"]][:1] == [field] * bool(field)
        named = isinstance(line, dict) and line["id"] == "mine"
        assert row["id"] == ("mine" if named else None)
        assert set(row) == {"id", "line", "error"}
    assert "SECRET" not in str(rows) + str(logged)


@pytest.mark.parametrize("body", [b"", b"\r\n", b'{"text": "a"}\r\n{"text": "a"}', b"\n\n"])
def test_there_are_as_many_rows_as_lines(client: TestClient, body):
    response = client.post("/score/bulk", content=body, headers=NDJSON)
    assert len(response.text.splitlines()) == body.count(b"\n") + (body[-1:] == b"}")


def test_a_byte_order_mark_is_no_part_of_the_first_line(client: TestClient):
    first, second = ask(client, b'\xef\xbb\xbf{"text": "we"}', b'\xef\xbb\xbf{"text": "we"}')
    assert first["log_prob"] < 0
    assert second["error"]["status"] == 400


@pytest.mark.parametrize(
    "headers",
    [{"content-type": "application/json"}, {}, NDJSON | {"content-encoding": "gzip"}],
    ids=str,
)
def test_what_is_not_plain_ndjson_is_refused(client: TestClient, headers):
    response = client.post("/score/bulk", content=b"{}", headers=headers)
    assert response.status_code == 415
    assert response.headers["content-type"] == "application/problem+json"


def test_without_a_model_there_is_no_stream(tmp_path: Path):
    with TestClient(create_app(Settings(models_dir=tmp_path))) as client:
        assert client.post("/score/bulk", content=b"{}", headers=NDJSON).status_code == 503


def test_a_small_queue_is_waited_for_and_never_full(models_dir: Path):
    settings = Settings(models_dir=models_dir, queue_items=16, running_items=2)
    with TestClient(create_app(settings)) as client:
        wait_until_ready(client)
        rows = ask(client, *({"text": text, "tokens": True} for text in sentences(200)))
        metrics = client.get("/metrics").text
    assert all("log_prob" in row for row in rows)
    assert f'nextword_rejected_total{{model="{SUBWORD}"}} 0.0' in metrics


def test_a_full_queue_is_waited_for(settings: Settings, monkeypatch):
    monkeypatch.setattr("app.routes.bulk._LONGEST_WAIT", 0.05)
    small = settings.model_copy(update={"queue_items": 4})

    async def scenario() -> None:
        async with asyncio.timeout(30), ready_app(small) as app:
            texts = sentences(100)
            first = Caller(app, "/score", {"text": texts, "tokens": True})
            await asyncio.sleep(0)
            lines = b"\n".join(orjson.dumps({"text": text}) for text in texts)
            second = Lines(app, lines)
            await asyncio.gather(first.call, second.call)
            rows = [orjson.loads(row) for row in second.received().splitlines()]
            assert len(rows) == 100
            assert all("log_prob" in row for row in rows)

    asyncio.run(scenario())


def test_who_is_over_a_limit_holds_nobody_else_up(settings: Settings):
    # Room for one line of all streams together.
    limited = settings.model_copy(update={"queue_items": 8, "items_per_minute": 2})

    async def scenario() -> None:
        async with asyncio.timeout(20), ready_app(limited) as app:
            greedy = Lines(app, b'{"text":"we"}\n' * 50, client="10.0.0.1")
            rows = b""
            while rows.count(b"\n") < 2:
                rows += await greedy.chunks.get()
            modest = Lines(app, b'{"text":"we"}\n' * 2, client="10.0.0.2")
            await modest.call
            assert modest.received().count(b'"log_prob":') == 2
            assert not greedy.call.done()
            greedy.leave()
            await greedy.call

    asyncio.run(scenario())


def test_a_full_queue_of_one_model_holds_up_no_other(settings: Settings, monkeypatch):
    monkeypatch.setattr("app.routes.bulk._LONGEST_WAIT", 0.05)
    compute, begun, go_on = LanguageModel.compute, threading.Event(), threading.Event()

    def held(self: LanguageModel, forwards):
        if self.name == SUBWORD:
            begun.set()
            assert go_on.wait(20)
        return compute(self, forwards)

    small = settings.model_copy(update={"queue_items": 8})

    async def scenario() -> None:
        async with asyncio.timeout(30), ready_app(small) as app:
            monkeypatch.setattr(LanguageModel, "compute", held)  # loading computes too
            full = Caller(app, "/score", {"text": ["we sold"] * 20, "model": SUBWORD})
            while not begun.is_set():
                await asyncio.sleep(0.01)
            waiting = Lines(app, orjson.dumps({"text": "we", "model": SUBWORD}))
            await asyncio.sleep(0.1)
            other = Lines(app, orjson.dumps({"text": "we", "model": WORD}))
            try:
                await other.call
                assert not full.call.done()
                assert not waiting.call.done()
            finally:
                go_on.set()
            await asyncio.gather(full.call, waiting.call)
            assert b'"log_prob":' in other.received()
            assert b'"log_prob":' in waiting.received()

    asyncio.run(scenario())


def test_a_bug_in_one_line_takes_no_other_along(client: TestClient, monkeypatch):
    monkeypatch.setattr(
        "app.routes.bulk.score_line", lambda model, query: _failing(model, query.text)
    )
    with structlog.testing.capture_logs() as logged:
        rows = ask(client, {"text": "we"}, {"id": 7, "text": "SECRET"}, {"text": "you"})
    assert ["error" in row for row in rows] == [False, True, False]
    assert (rows[1]["id"], rows[1]["error"]["status"]) == (7, 500)
    assert "bug" in {line["event"] for line in logged}
    assert "SECRET" not in str(rows) + str(logged)


def _failing(model: LanguageModel, text: str):
    from models.score import score

    if text == "SECRET":
        raise MemoryError(text)
    return score(model, text)


class Lines(Caller):
    """A caller that sends lines."""

    def __init__(self, app, body: bytes, client: str = "127.0.0.1") -> None:
        kind = b"application/x-ndjson"
        super().__init__(app, "/score/bulk", {}, content_type=kind, raw=body, client=client)

    def received(self) -> bytes:
        """Everything so far."""
        parts = []
        while not self.chunks.empty():
            parts.append(self.chunks.get_nowait())
        return b"".join(parts)


def test_work_ends_when_the_client_goes(settings: Settings, monkeypatch):
    steps: list[int] = []
    compute = LanguageModel.compute

    def slow(self: LanguageModel, forwards):
        steps.append(len(forwards))
        time.sleep(0.005)
        return compute(self, forwards)

    monkeypatch.setattr(LanguageModel, "compute", slow)

    async def scenario() -> None:
        async with asyncio.timeout(60), ready_app(settings) as app:
            line = orjson.dumps({"text": "we sold coffee. " * 100})
            caller = Lines(app, b"\n".join([line] * 128))
            while len(steps) < 5:
                await asyncio.sleep(0.01)
            caller.leave()
            await caller.call
            begun = len(steps)
            assert await settled(steps) <= begun + 1

    asyncio.run(scenario())


def test_rows_come_while_the_body_is_being_written(url: str):
    answered = threading.Event()

    def lines():
        yield from (orjson.dumps({"id": i, "text": "we sold"}) for i in range(2000))
        assert answered.wait(60)
        yield orjson.dumps({"id": "last", "text": "coffee"})

    with Duplex(url, lines()) as duplex:
        assert duplex.status() == 200
        rows = duplex.rows()
        first = [orjson.loads(next(rows)) for _ in range(1000)]
        assert [row["id"] for row in first] == list(range(1000))
        answered.set()
        *_, last = rows
        assert orjson.loads(last)["id"] == "last"
        assert orjson.loads(last)["line"] == 2001


def test_who_does_not_read_is_not_read_from_and_who_hangs_up_is_forgotten(service, url: str):
    process, client = service
    before = resident(process.pid)
    line = orjson.dumps({"text": "we", "unknown": " " * 2000})
    with Duplex(url, itertools.repeat(line)) as duplex:
        assert duplex.status() == 200
        written = -1
        deadline = time.monotonic() + 60
        while written != duplex.written and time.monotonic() < deadline:
            written = duplex.written
            time.sleep(1)
        assert written == duplex.written
        assert resident(process.pid) < before + 24
        assert client.get("/health").status_code == 200
    deadline = time.monotonic() + 20
    while "bulk" not in in_progress(client) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "bulk" in in_progress(client)


def in_progress(client) -> str:
    """The finished requests of the route, in the service's own count."""
    return "".join(
        line for line in client.get("/metrics").text.splitlines() if "/score/bulk" in line
    )


def test_hanging_up_with_a_full_window_ends_the_work(service, url: str):
    _, client = service
    line = orjson.dumps({"text": "we sold coffee. " * 100, "model": WORD})
    with Duplex(url, itertools.repeat(line)) as duplex:
        assert duplex.status() == 200
        assert next(duplex.rows())
    deadline = time.monotonic() + 10
    while (running := waiting(client)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running == 0


def waiting(client) -> float:
    """How many items the engine has."""
    found = [
        line
        for line in client.get("/metrics").text.splitlines()
        if line.startswith(("nextword_queue_items", "nextword_running_items"))
    ]
    assert found
    return sum(float(line.split()[-1]) for line in found)


def resident(pid: int) -> float:
    """Resident memory of a process, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def test_a_stream_without_end_ends_with_the_service(models_dir: Path, tmp_path: Path):
    with served(models_dir, tmp_path, SHUTDOWN_SECONDS="1") as (process, client, log):
        wait_for(client, process, "/ready")
        address = str(client.base_url).rstrip("/")
        with Duplex(address, itertools.repeat(b'{"text":"we sold"}')) as duplex:
            assert duplex.status() == 200
            rows = duplex.rows()
            found = [orjson.loads(next(rows)) for _ in range(200)]
            process.send_signal(signal.SIGTERM)
            found += map(orjson.loads, rows)  # to a proper end
        assert process.wait(30) == 0
        assert "Traceback" not in log.read_text()
    assert [row["line"] for row in found] == list(range(1, len(found) + 1))
    assert {row["error"]["status"] for row in found if "error" in row} == {503}
    assert sum("error" in row for row in found) <= 512


@pytest.mark.slow
def test_memory_stays_flat_over_hundreds_of_thousands_of_lines(service, url: str):
    process, _ = service
    count = 200_000

    def line(i: int) -> bytes:  # most of them ask nothing of the network
        return orjson.dumps({"id": i, "text": "we sold"} if i % 20 == 0 else {"id": i})

    memory = []
    with Duplex(url, map(line, range(count))) as duplex:
        assert duplex.status() == 200
        for i, row in enumerate(duplex.rows()):
            assert row.startswith(b'{"id":%d,"line":%d,' % (i, i + 1))
            assert (b'"log_prob":' in row) == (i % 20 == 0)
            if i % 20_000 == 10_000:
                memory.append(resident(process.pid))
    assert i == count - 1
    assert max(memory) - memory[0] < 8, memory
