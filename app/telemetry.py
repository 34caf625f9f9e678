"""Traces of requests for OpenTelemetry: an extra, ``nextword[otel]``, and off unless asked for.

A span says which route, which model, how many tokens and what status, never what anybody wrote: no
path, query, header, body or message of an error goes into it. Where no endpoint is set, nothing of
this is imported and nothing stands in a request's way.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import METHODS
from models.completion import Completion
from models.language_model import LanguageModel
from models.score import SentenceScore

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# Asked every few seconds by machines, and of interest to nobody.
_UNTRACED = frozenset({"/health", "/ready", "/metrics"})
_PROPAGATED = frozenset({b"traceparent", b"tracestate"})

log = structlog.get_logger()


class Tracing:
    """Makes a span of each request, and adds what the engine knows of it."""

    def __init__(self, provider: "TracerProvider") -> None:
        """Send spans where ``provider`` sends them."""
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace, self._provider = trace, provider
        self._tracer = provider.get_tracer("nextword", version("nextword"))
        self._propagator = TraceContextTextMapPropagator()

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return an application that traces the requests to ``app``."""
        trace = self._trace

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] in _UNTRACED:
                await app(scope, receive, send)
                return
            status = 0

            async def send_and_look(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            headers = {
                name.decode(): value.decode("latin-1")
                for name, value in scope["headers"]
                if name in _PROPAGATED
            }
            method = scope["method"] if scope["method"] in METHODS else "_OTHER"
            with self._tracer.start_as_current_span(
                method,
                self._propagator.extract(headers),
                trace.SpanKind.SERVER,
                {"http.request.method": method},
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    await app(scope, receive, send_and_look)
                finally:
                    route = getattr(scope.get("route"), "path", None)
                    if route is not None:
                        span.update_name(f"{method} {route}")
                        span.set_attribute("http.route", route)
                    if status:
                        span.set_attribute("http.response.status_code", status)
                    if not status or status >= 500:
                        span.set_status(trace.StatusCode.ERROR)

        return traced

    def observe(self, model: LanguageModel, items: int, computed: int, result: Any) -> None:
        """Add a program that has ended to the span of the request that it ran for.

        Args:
            model: That it ran on.
            items: Sentences or sequences that it worked on.
            computed: Tokens that had to be computed for it.
            result: What it returned; None if it did not come to its end.
        """
        span: Any = self._trace.get_current_span()
        if not span.is_recording():
            return
        read, written = _tokens(result)
        span.set_attribute("gen_ai.request.model", model.name)
        for name, count in (
            ("nextword.items", items),
            ("nextword.tokens.computed", computed),
            ("gen_ai.usage.input_tokens", read),
            ("gen_ai.usage.output_tokens", written),
        ):
            if count:  # a request may run several programs
                span.set_attribute(name, count + span.attributes.get(name, 0))

    def close(self) -> None:
        """Send what has not been sent. Takes seconds where nobody listens."""
        self._provider.shutdown()


def _tokens(answer: Any) -> tuple[int, int]:
    """Return how many tokens an answer says were read and written; 0 where it does not say."""
    match answer:
        case {"usage": {"prompt_tokens": int(read), "completion_tokens": int(written)}}:
            return read, written
        case {"context": {"tokens": int(read)}}:
            return read, 0
        case {"results": [*results]}:
            return sum(getattr(result, "scored_tokens", 0) for result in results), 0
        case SentenceScore():
            return answer.scored_tokens, 0
        case [Completion(), *_]:
            return 0, sum(len(one.tokens) for each in answer for one in each.results)
    return 0, 0


def configured_tracing(
    environ: Mapping[str, str], exporter: "SpanExporter | None" = None
) -> Tracing | None:
    """Return tracing if the environment names an endpoint, else None.

    Args:
        environ: With OpenTelemetry's own variables; its libraries read the others of them.
        exporter: Takes the spans; by default they go to the endpoint as OTLP over HTTP.
    """
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    off = off or environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none"
    if off or not any(environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
    except ImportError as error:
        log.warning("no traces", reason=f"{error.name} is missing")
        return None
    ours = Resource({"service.name": "nextword", "service.version": version("nextword")})
    provider = TracerProvider(
        resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)
