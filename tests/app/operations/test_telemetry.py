"""Spans: what they tell, and what they never do."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app.application import create_app
from app.settings import Settings
from app.telemetry import Tracing, configured_tracing
from tests.app.conftest import SUBWORD, wait_until_ready

SECRET = "xyzzysecret"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(scope="module")
def traced(models_dir: Path):
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = create_app(Settings(models_dir=models_dir), tracing=Tracing(provider))
    with TestClient(app) as client:
        wait_until_ready(client)
        yield client, exporter


@pytest.fixture
def span_of(traced):
    """What the one span of a request says."""
    client, exporter = traced

    def ask(method: str, path: str, **options):
        exporter.clear()
        client.request(method, path, **options)
        (span,) = exporter.get_finished_spans()
        assert SECRET not in span.to_json()
        return span

    return ask


def test_a_question_says_route_model_and_tokens(span_of):
    span = span_of("POST", "/score?q=" + SECRET, json={"text": [SECRET, "we"], "model": SUBWORD})
    assert span.name == "POST /score"
    assert span.kind == SpanKind.SERVER
    assert span.status.status_code == StatusCode.UNSET
    tokens = span.attributes["gen_ai.usage.input_tokens"]
    assert dict(span.attributes) == {
        "http.request.method": "POST",
        "http.route": "/score",
        "http.response.status_code": 200,
        "gen_ai.request.model": SUBWORD,
        "nextword.items": 2,
        "nextword.tokens.computed": span.attributes["nextword.tokens.computed"],
        "gen_ai.usage.input_tokens": tokens,
    }
    assert 4 < tokens <= span.attributes["nextword.tokens.computed"] + 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_continuation_says_what_was_written(span_of, stream):
    body = {"text": SECRET, "model": SUBWORD, "max_tokens": 5, "stop": [SECRET], "stream": stream}
    span = span_of("POST", "/generate", json=body)
    assert 0 < span.attributes["gen_ai.usage.output_tokens"] <= 5
    assert span.attributes["gen_ai.usage.input_tokens"] > 1


def test_a_next_word_says_what_was_read(span_of):
    span = span_of("POST", "/next-word", json={"text": SECRET, "model": SUBWORD})
    assert span.attributes["gen_ai.usage.input_tokens"] > 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_completion_says_what_was_written(span_of, stream):
    body = {"prompt": [SECRET, "we"], "model": SUBWORD, "max_tokens": 3, "stream": stream}
    span = span_of("POST", "/v1/completions", json=body)
    assert 0 < span.attributes["gen_ai.usage.output_tokens"] <= 6


def test_a_bulk_of_lines_says_how_many_tokens_were_scored(span_of):
    body = b"".join(
        b'{"text": "%b", "model": "%b"}\n' % (w, SUBWORD.encode()) for w in (b"we", b"I")
    )
    headers = {"content-type": "application/x-ndjson"}
    span = span_of("POST", "/score/bulk", content=body, headers=headers)
    assert span.attributes["nextword.items"] == 2
    assert span.attributes["gen_ai.usage.input_tokens"] >= 4


@pytest.mark.parametrize(
    ("method", "path", "options", "name", "status"),
    [
        ("POST", "/score", {"json": {"text": [], SECRET: 1}}, "POST /score", 422),
        ("POST", "/score", {"json": {"text": "a", "model": SECRET}}, "POST /score", 404),
        ("GET", f"/{SECRET}", {}, "GET", 404),
        ("GET", f"/models/{SECRET}", {}, "GET /models/{name}", 404),
        (SECRET.upper(), "/score", {}, "_OTHER /score", 405),
    ],
)
def test_no_mistake_makes_it_tell(span_of, method, path, options, name, status):
    span = span_of(method, path, headers={"x-other": SECRET}, **options)
    assert (span.name, span.attributes["http.response.status_code"]) == (name, status)
    assert span.status.status_code == StatusCode.UNSET  # it is the client's fault
    assert SECRET.upper() not in span.to_json()


def test_it_goes_on_with_a_trace_that_was_begun(span_of):
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    span = span_of("GET", "/models", headers={"traceparent": f"00-{trace}-{parent}-01"})
    assert f"{span.context.trace_id:032x}" == trace
    assert f"{span.parent.span_id:016x}" == parent


def test_a_bug_is_an_error_without_its_message(models_dir, monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = create_app(Settings(models_dir=models_dir), tracing=Tracing(provider))

    def fail() -> None:
        raise RuntimeError(SECRET)

    with TestClient(app, raise_server_exceptions=False) as client:
        monkeypatch.setattr(app.state.registry, "names", fail)
        assert client.get("/models").status_code == 500
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code == StatusCode.ERROR
    assert SECRET not in span.to_json()


def test_probes_leave_no_trace(traced):
    client, exporter = traced
    exporter.clear()
    for path in ("/health", "/ready", "/metrics"):
        assert client.get(path).status_code == 200
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_it_is_off_unless_it_is_asked_for(environ):
    assert configured_tracing(environ) is None


def test_what_is_off_is_not_even_imported():
    code = (
        "import sys; import app.server; print([m for m in sys.modules if 'opentelemetry.sdk' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_without_the_extra_the_service_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert configured_tracing({ENDPOINT: "http://127.0.0.1:1"}) is None


def test_spans_arrive_where_the_environment_says(models_dir: Path, monkeypatch):
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, content))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        environ = {
            ENDPOINT: f"http://127.0.0.1:{collector.server_port}",
            "OTEL_SERVICE_NAME": "my-words",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        tracing = configured_tracing(environ)
        assert tracing is not None
        with TestClient(create_app(Settings(models_dir=models_dir), tracing=tracing)) as client:
            wait_until_ready(client)
            body = {"text": SECRET, "model": SUBWORD}
            assert client.post("/score", json=body).status_code == 200
        collector.shutdown()  # it was closed with the service, so everything has been sent
        thread.join(20)
    ((path, content),) = received
    assert path == "/v1/traces"
    assert b"POST /score" in content
    assert b"my-words" in content
    assert SECRET.encode() not in content
