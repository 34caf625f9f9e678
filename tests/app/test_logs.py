"""Lines of the log: JSON, whatever is in them."""

import io
import json
import logging
import sys

import pytest
import structlog

from app.logs import configure_logging


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch):
    """The bytes of standard error, with the service's logging."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, write_through=True))
    configured, handlers = structlog.get_config(), logging.root.handlers[:]
    level = logging.root.level
    configure_logging()
    yield raw
    structlog.configure(**configured)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(written: io.BytesIO) -> list[dict]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_line_is_an_object_with_its_level_and_time(written):
    log = structlog.get_logger()
    log.info("one", path="/a", number=1.5, nothing=None)
    log.warning("two")
    first, second = lines(written)
    assert first.pop("timestamp").endswith("Z")
    assert first == {"event": "one", "level": "info", "path": "/a", "number": 1.5, "nothing": None}
    assert second["level"] == "warning"


def test_what_json_has_no_word_for_is_written_all_the_same(written):
    log = structlog.get_logger()
    log.info("path", name="caf\udce9", big=2**70)
    log.info("object", thing={1, 2}, key={3: 4})
    path, thing = lines(written)
    assert (path["name"], path["big"]) == ("caf\udce9", 2**70)
    assert thing["thing"] == "{1, 2}"


def test_an_exception_brings_its_traceback(written):
    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(written)
    assert line["level"] == "error"
    assert "exc_info" not in line
    assert line["exception"].endswith("ValueError: why")


def test_lines_of_others_look_the_same(written):
    logging.getLogger("uvicorn.error").info("Started %s", "it")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("failed")
    first, second = lines(written)
    assert (first["event"], first["level"]) == ("Started it", "info")
    assert (second["level"], "why" in second["exception"]) == ("error", True)
