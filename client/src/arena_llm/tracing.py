"""Traces by OpenTelemetry: one from the client through router and service to the provider.

The standard variables turn them on: OTEL_EXPORTER_OTLP_ENDPOINT (or ..._TRACES_ENDPOINT) names a
receiver; OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and the others have their usual meaning. Without a
receiver nothing of OpenTelemetry is imported. A program that has set a tracer provider of its own
keeps it.

Spans never have prompts, replies or keys.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: Names the header with a call's place in its trace (https://www.w3.org/TR/trace-context/).
TRACE_HEADERS = ("traceparent", "tracestate")

Pairs = tuple[tuple[str, Any], ...]


def is_requested(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the standard variables name a receiver of traces."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return False
    return any(
        environ.get(f"OTEL_EXPORTER_OTLP_{name}") for name in ("ENDPOINT", "TRACES_ENDPOINT")
    )


class Tracing:
    """The spans of this process. It makes none unless the standard variables ask for them."""

    def __init__(self, service: str = "arena-llm-client") -> None:
        self._service = service
        self._api: Any = None
        self._tracer: Any = None
        self._setting_up = threading.Lock()
        self.is_on = is_requested()

    def name(self, service: str) -> None:
        """Say which service this process is: after its variables are set, before its first span."""
        self._service = service
        self.is_on = is_requested()

    def start(
        self,
        name: str,
        kind: str = "INTERNAL",
        attributes: Mapping[str, Any] | None = None,
        *,
        parent: Any = None,
        at: float | None = None,
    ) -> Any:
        """Begin a span; None if there are no traces.

        kind: CLIENT, SERVER or INTERNAL. parent: a span, or the headers of a call; None: the
        current span of this context. at: when it began, by time.time().
        """
        if not self.is_on or (self._tracer is None and not self._set_up()):
            return None
        context = None
        if isinstance(parent, Mapping):
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            context = TraceContextTextMapPropagator().extract(parent)
        elif parent is not None:
            context = self._api.set_span_in_context(parent)
        return self._tracer.start_span(
            name,
            context=context,
            kind=self._api.SpanKind[kind],
            attributes=attributes or {},
            start_time=None if at is None else int(at * 1e9),
        )

    def enter(self, span: Any) -> None:
        """Make a span the current one of this task, for the rest of it."""
        if span is not None:
            from opentelemetry import context

            context.attach(self._api.set_span_in_context(span))

    def replace_headers(self, metadata: Pairs, span: Any) -> Pairs:
        """The headers of a call that is forwarded: it continues this span, not its caller's."""
        if span is None:
            return metadata
        kept = tuple(pair for pair in metadata if pair[0] not in TRACE_HEADERS)
        return kept + self.headers(span)

    def headers(self, span: Any) -> Pairs:
        """The headers that carry a span to the next process."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        context = self._api.set_span_in_context(span)
        TraceContextTextMapPropagator().inject(carrier, context=context)
        return tuple(carrier.items())

    def end(
        self,
        span: Any,
        attributes: Mapping[str, Any] | None = None,
        *,
        problem: str = "",
        at: float | None = None,
    ) -> None:
        """End a span. problem: why it failed; empty if it did not. at: by time.time()."""
        if span is None:
            return
        if attributes:
            span.set_attributes(attributes)
        if problem:
            span.set_attribute("error.type", problem)
            span.set_status(self._api.StatusCode.ERROR, problem)
        span.end(None if at is None else int(at * 1e9))

    def flush(self) -> None:
        """Send the spans that have ended."""
        if self._tracer is not None:
            flush = getattr(self._api.get_tracer_provider(), "force_flush", None)
            if flush is not None:
                flush(5_000)

    def _set_up(self) -> bool:
        try:
            from opentelemetry import trace
        except ImportError:
            self.is_on = False
            warnings.warn(
                "OTEL_EXPORTER_OTLP_ENDPOINT is set, and there are no traces without "
                "pip install 'arena-llm[otel]'",
                stacklevel=2,
            )
            return False
        self._api = trace
        with self._setting_up:  # several threads may make their first call at the same time
            if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
                trace.set_tracer_provider(self._make_provider())
            self._tracer = trace.get_tracer("arena_llm")
        return True

    def _make_provider(self) -> Any:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        name = os.environ.get("OTEL_SERVICE_NAME") or self._service
        provider = TracerProvider(resource=Resource.create({"service.name": name}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return provider


#: The traces of this process.
tracing = Tracing()


def trace_call(
    method: Callable[..., Any], timeout: float | None, metadata: Pairs, call: Any
) -> Any:
    """Start a call of the client inside a span, which ends with it.

    method: of grpc. call: a Call. Returns what grpc returns: the reply of a blocking call, else the
    running call.
    """
    attributes = {"rpc.method": call.method, "gen_ai.request.model": call.model}
    if call.session:
        attributes["gen_ai.conversation.id"] = call.session
    span = tracing.start(call.method, "CLIENT", attributes)
    if span is None:
        return method(call.request, timeout=timeout, metadata=metadata)
    try:
        started = method(call.request, timeout=timeout, metadata=metadata + tracing.headers(span))
    except BaseException as error:
        code = getattr(error, "code", None)
        tracing.end(span, problem=code().name if callable(code) else type(error).__name__)
        raise
    if hasattr(started, "add_done_callback"):
        started.add_done_callback(lambda _: tracing.end(span))
    elif not hasattr(started, "add_callback"):
        tracing.end(span)  # the reply of a blocking call
    elif not started.add_callback(lambda: tracing.end(span)):
        tracing.end(span)
    return started


def add_spans(span: Any, began: float, parts: Iterable[tuple[str, float]]) -> None:
    """Add the parts of a span: names and the seconds after its beginning at which each ends.

    began: by time.time().
    """
    if span is None:
        return
    start = began
    for name, seconds in parts:
        part = tracing.start(name, parent=span, at=start)
        start = max(start, began + seconds)
        tracing.end(part, at=start)
