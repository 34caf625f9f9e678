"""``nextword score --input``: a row for every line, once, whatever becomes of the process."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from app.bulk.sink import Sink
from app.bulk.sources import FileError
from app.cli import app
from tests.app.conftest import SUBWORD, WORD, sentences


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, models_dir: Path) -> None:
    monkeypatch.setenv("NEXTWORD_MODELS_DIR", str(models_dir))
    monkeypatch.setenv("NEXTWORD_DEFAULT_MODEL", SUBWORD)


def score(*arguments: object, code: int = 0, **options: object):
    result = CliRunner().invoke(app, ["score", *map(str, arguments)], **options)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def expected(texts: list[str], *options: str) -> list[dict]:
    """The rows by the other way through: texts as arguments."""
    answer = json.loads(score(*texts, "--json", *options).stdout)
    return [
        {"id": None, "line": i + 1, "model": answer["model"]}
        | {name: value for name, value in result.items() if name != "text"}
        for i, result in enumerate(answer["results"])
    ]


def write_lines(path: Path, count: int) -> list[bytes]:
    """JSON lines, one in eleven of them faulty."""
    rng = random.Random(2)
    texts = sentences()
    lines = [
        b"{" if i % 11 == 5 else orjson.dumps({"id": f"n{i}", "text": rng.choice(texts)})
        for i in range(count)
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return lines


def test_text_becomes_a_row_a_line(tmp_path: Path):
    texts = [*sentences(300), "", "ä ✓"]
    (tmp_path / "in.txt").write_text("\n".join(texts) + "\n")
    result = score("--input", tmp_path / "in.txt", "--output", tmp_path / "out.jsonl")
    assert result.stdout == ""
    assert rows(tmp_path / "out.jsonl") == expected(texts)
    options = ("--context", "so", "--no-bos", "--no-eos", "--tokens", "--model", WORD)
    piped = score("--input", "-", "--format", "text", *options, input="\n".join(texts[:20]))
    found = [json.loads(line) for line in piped.stdout.splitlines()]
    assert found == expected(texts[:20], *options)


@pytest.mark.parametrize(
    ("name", "line"), [("in.txt", "we sold"), ("in.jsonl", '{"text": "we sold"}')]
)
def test_a_byte_order_mark_is_not_scored(tmp_path: Path, name, line):
    (tmp_path / name).write_text(f"{line}\n{line}\n", encoding="utf-8-sig")
    found = score("--input", tmp_path / name, "--no-eos").stdout.splitlines()
    assert [json.loads(row) for row in found] == expected(["we sold"] * 2, "--no-eos")


def test_faulty_lines_are_reported_and_kept(tmp_path: Path):
    lines = [b'{"id": 1, "text": "we"}', b"{", b'{"id": 3}', b'{"text": "we", "model": "other"}']
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    result = score("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out", code=1)
    found = rows(tmp_path / "out")
    assert [row.get("error", {}).get("status") for row in found] == [None, 400, 422, 404]
    assert [row["id"] for row in found] == [1, None, 3, None]
    assert "line 2: " in result.stderr
    assert "line 3: text: Field required" in result.stderr
    assert "4 lines, 3 of them with an error" in result.stderr
    raw = b"we \xff\n" + b"a" * (2 << 20) + b"\nyou"
    result = score("--input", "-", "--format", "text", input=raw, code=1)
    statuses = [json.loads(r).get("error", {}).get("status") for r in result.stdout.splitlines()]
    assert statuses == [400, 413, None]


def test_a_service_gives_the_same_rows(tmp_path: Path, url: str):
    write_lines(tmp_path / "in.jsonl", 500)
    arguments = ("--input", tmp_path / "in.jsonl", "--model", WORD, "--context", "so")
    score(*arguments, "--output", tmp_path / "here", code=1)
    score(*arguments, "--output", tmp_path / "there", "--url", url, code=1)
    here, there = rows(tmp_path / "here"), rows(tmp_path / "there")
    assert len(here) == 500
    for row in (*here, *there):
        row.get("error", {}).pop("request_id", None)
    assert here == there
    assert (
        score("we", "--url", url, "--json", "--model", WORD).stdout
        == score("we", "--json", "--model", WORD).stdout
    )
    assert "log-probability" in score("we", "--url", url).stdout
    before = tmp_path / "before.txt"
    before.write_text("we sold the slow computer")
    options = ("we sold", "--json", "--model", WORD)
    asked = score(*options, "--history", before, "--url", url).stdout
    alone, with_history = json.loads(score(*options, "--url", url).stdout), json.loads(asked)
    assert with_history["results"][0]["log_prob"] > alone["results"][0]["log_prob"]


@pytest.mark.parametrize("cut", [0, 1, 40, 5000, 10_000, 99_999_999])
def test_it_goes_on_behind_the_last_whole_row(tmp_path: Path, cut):
    write_lines(tmp_path / "in.jsonl", 100)
    whole, part = tmp_path / "whole", tmp_path / "part"
    score("--input", tmp_path / "in.jsonl", "--output", whole, code=1)
    part.write_bytes(whole.read_bytes()[:cut])
    # The status is that of all rows, also of those that were there.
    score("--input", tmp_path / "in.jsonl", "--output", part, "--resume", code=1)
    assert part.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 20])
def test_errors_that_are_there_are_counted_but_for_one_that_is_not_whole(
    tmp_path: Path, monkeypatch, piece
):
    monkeypatch.setattr("app.bulk.sink._PIECE", piece)
    error = {"status": 422, "errors": []}
    quoting = {"id": ',"error":{', "model": ',"error":{'}
    parts = [
        orjson.dumps({"line": i + 1} | (quoting | {"error": error} if i % 3 == 1 else quoting))
        for i in range(20)
    ]
    path = tmp_path / "out"
    path.write_bytes(b"\n".join(parts) + b"\n")
    with Sink(str(path), resume=True) as sink:
        assert (sink.count, sink.faults) == (20, 7)
    with path.open("ab") as file:
        file.write(parts[1][:-1])
    with Sink(str(path), resume=True) as sink:
        assert (sink.count, sink.faults) == (20, 7)


@pytest.mark.parametrize("served", [False, True], ids=["here", "served"])
def test_kill_9_loses_and_doubles_nothing(tmp_path: Path, url: str, served):
    lines = write_lines(tmp_path / "in.jsonl", 8000)
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-c", "from app.cli import main; main()", "score", "--resume"]
    command += ["--input", str(tmp_path / "in.jsonl"), "--output", str(out)]
    command += ["--url", url] if served else []
    for _ in range(2):
        before = out.stat().st_size if out.exists() else 0
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if out.exists() and out.stat().st_size > before + 100_000:
                break
            time.sleep(0.01)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        with out.open("ab") as file:  # as a write cut short would leave it
            file.write(b'{"id":"n')
    process = subprocess.run(command, capture_output=True, timeout=240, text=True)
    assert process.returncode == 1, process.stderr
    assert "that were there" in process.stderr
    found = rows(out)
    assert [row["line"] for row in found] == list(range(1, len(lines) + 1))
    for i, row in enumerate(found):
        assert row["id"] == (None if i % 11 == 5 else f"n{i}")
        assert ("error" in row) == (i % 11 == 5)


def test_what_is_there_is_not_written_over(tmp_path: Path):
    (tmp_path / "in.txt").write_text("we\n")
    out = tmp_path / "out"
    out.write_text("mine\n")
    arguments = ("--input", tmp_path / "in.txt", "--output", out)
    assert "exists; --resume goes on" in score(*arguments, code=2).stderr
    assert "line 1 is not the row" in score(*arguments, "--resume", code=2).stderr
    assert out.read_text() == "mine\n"
    same = ("--input", tmp_path / "in.txt", "--output", tmp_path / "in.txt")
    assert "is the input" in score(*same, "--resume", code=2).stderr
    out.write_text('{"line":1}\n{"line":2}\n')
    assert "has fewer lines" in score(*arguments, "--resume", code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "/nowhere/x"), "No such file"),
        (("--input", "-", "--resume"), "--resume needs --output FILE"),
        (("--input", "-", "--format", "csv"), "--format must be one of jsonl, parquet, text"),
        (("--input", "-", "--format", "parquet"), "not from standard input"),
        (("--input", "-", "we"), "in the place of texts"),
        (("we", "--resume"), "belong to --input"),
        (("we", "--url", "ftp://x"), "must begin with http"),
        (("--input", "-", "--output", "/nowhere/x"), "No such file"),
    ],
)
def test_what_a_user_can_mend_is_one_clear_error(arguments, message):
    error = score(*arguments, code=2, input="we\n").stderr
    assert message in error


def test_no_service_is_an_error_and_what_is_there_stays(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("app.client.blocking._pause", lambda *_: False)
    (tmp_path / "in.txt").write_text("we\n")
    arguments = ("--input", tmp_path / "in.txt", "--output", tmp_path / "out")
    assert "cannot be reached" in score(*arguments, "--url", "http://127.0.0.1:9", code=2).stderr
    score(*arguments, "--resume")
    assert len(rows(tmp_path / "out")) == 1


def test_a_sink_may_be_no_plain_file(tmp_path: Path):
    with Sink(os.devnull, resume=False) as sink:
        sink.write([b"{}\n"])
    with pytest.raises(FileError, match="no plain file"):
        Sink(os.devnull, resume=True)


def test_parquet_in_and_out_and_gone_on_with(tmp_path: Path):
    arrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = sentences(700)
    columns = {"id": list(range(700)), "text": [*texts[:-1], None], "other": [1.5] * 700}
    parquet.write_table(arrow.table(columns), tmp_path / "in.parquet", row_group_size=150)
    score("--input", tmp_path / "in.parquet", "--output", tmp_path / "out.jsonl", code=1)
    found = rows(tmp_path / "out.jsonl")
    assert [(row["id"], row["line"]) for row in found] == [(i, i + 1) for i in range(700)]
    assert [r["log_prob"] for r in found[:200]] == [
        row["log_prob"] for row in expected(texts[:200])
    ]
    assert found[-1]["error"]["errors"][0]["field"] == "text"

    out = tmp_path / "out.parquet"
    part = b"".join((tmp_path / "out.jsonl").read_bytes().splitlines(True)[:333])
    (tmp_path / "out.parquet.rows.jsonl").write_bytes(part + b'{"id"')
    arguments = ("--input", tmp_path / "in.parquet", "--output", out)
    score(*arguments, "--resume", code=1)
    table = parquet.read_table(out).to_pylist()
    assert [row["line"] for row in table] == list(range(1, 701))
    for row, line in zip(table, found, strict=True):
        assert row["id"] == str(line["id"])
        assert row["log_prob"] == line.get("log_prob")
        assert (row["error"] is None) == ("error" not in line)
    assert [path.name for path in tmp_path.glob("out.parquet*")] == ["out.parquet"]
    assert "exists" in score(*arguments, code=2).stderr
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    assert "bad.parquet" in score("--input", tmp_path / "bad.parquet", code=2).stderr
    torn = arrow.array([b"we", b"w\xff"]).view(arrow.string())
    parquet.write_table(arrow.table({"text": torn}), tmp_path / "torn.parquet")
    score("--input", tmp_path / "torn.parquet", "--output", tmp_path / "torn.jsonl", code=1)
    assert ["error" in row for row in rows(tmp_path / "torn.jsonl")] == [False, True]
    parquet.write_table(arrow.table({"a": [1]}), tmp_path / "no.parquet")
    assert "has no column text" in score("--input", tmp_path / "no.parquet", code=2).stderr


def test_parquet_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "in.parquet").write_bytes(b"PAR1")
    error = score("--input", tmp_path / "in.parquet", code=2).stderr
    assert "pip install pyarrow" in error
