"""JSON lines on standard error, the server's own included."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor


def configure_logging() -> None:
    """Send every log line of this process to standard error as one JSON object."""
    structlog.configure(
        # One step for all: a line is written for every request, and each step of its own costs as
        # much as the whole of this one.
        processors=[_render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    foreign: list[Processor] = [structlog.stdlib.add_log_level]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                lambda logger, method, event: _render(logger, method, event).decode(),
            ],
            foreign_pre_chain=foreign,
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)


def _render(logger: Any, method: str, event: EventDict) -> bytes:
    """Return the line of an event: a processor of structlog's."""
    if "exc_info" in event:
        event = dict(structlog.processors.format_exc_info(logger, method, event))
    event.setdefault("level", "error" if method == "exception" else method)
    event["timestamp"] = datetime.now(UTC)
    return _dumps(event)


def _dumps(event: EventDict, default: Callable[[Any], Any] = repr) -> bytes:
    try:
        return orjson.dumps(event, default, orjson.OPT_UTC_Z)
    except TypeError:
        # A path that is not UTF-8, or an integer beyond 64 bits: no reason to lose the line.
        return json.dumps(event, default=str).encode()
