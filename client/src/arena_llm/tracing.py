"""Traces by OpenTelemetry: one from the client through router and service to the provider.

The standard variables turn them on: OTEL_EXPORTER_OTLP_ENDPOINT (or ..._TRACES_ENDPOINT) names a
receiver; OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and the others have their usual meaning. Without a
receiver nothing of OpenTelemetry is imported. A tracer provider that the program has set is kept.

Spans never have keys, and no prompts or replies unless a service's `capture_content` says so.
"""

from __future__ import annotations

import os
import random
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

#: The headers with a call's place in its trace (https://www.w3.org/TR/trace-context/).
TRACE_HEADERS = ("traceparent", "tracestate")

Pairs = tuple[tuple[str, Any], ...]

#: Whether this call's trace is dropped: then its parts must not begin new traces.
_DROPPED: ContextVar[bool] = ContextVar("dropped", default=False)
#: The length of a traceparent, and its last characters that mean that the trace is dropped.
_LENGTH, _NOT_SAMPLED = 55, frozenset("02468ace")


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
        #: Whether a call is dropped if its caller's trace is.
        self._follows_caller = False
        #: Decides whether a trace that begins here is kept; None: the library decides.
        self._roots: Any = None
        self._setting_up = threading.Lock()
        self.is_on = is_requested()

    def name(self, service: str) -> None:
        """Set the name of this service. Call it after the variables are set, before the first span.

        It also prepares the first span, which takes 0.1 s.
        """
        self._service = service
        self.is_on = is_requested()
        if self.is_on:
            self._set_up()

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
        if parent is None and _DROPPED.get():
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

    def accept(self, name: str, headers: Iterable[tuple[str, Any]], at: float) -> tuple[Any, Pairs]:
        """Begin the span of a call that a server has received. It continues the caller's trace.

        It is the current span for the rest of the task. It is None if the trace is dropped. That
        is the usual case, so it mostly avoids the library. Also returns the headers with which
        the trace continues in the next process; none if the caller's headers remain valid.
        """
        parent = {key: value for key, value in headers if key in TRACE_HEADERS}
        place = parent.get(TRACE_HEADERS[0], "")
        if self._tracer is None:
            self._set_up()
        if self._follows_caller and len(place) == _LENGTH and place[-1] in _NOT_SAMPLED:
            _DROPPED.set(True)
            return None, ()
        if not place and self._roots is not None:
            trace_id = random.getrandbits(128)
            if not self._roots.keeps(trace_id, name):
                _DROPPED.set(True)
                parent_id = random.getrandbits(64)
                return None, ((TRACE_HEADERS[0], f"00-{trace_id:032x}-{parent_id:016x}-00"),)
        span = self.start(name, "SERVER", parent=parent, at=at)
        if span is None:
            return None, ()
        if not span.is_recording():
            _DROPPED.set(True)
            return None, self.headers(span)
        from opentelemetry import context

        context.attach(self._api.set_span_in_context(span))
        return span, self.headers(span)

    def headers(self, span: Any) -> Pairs:
        """The headers that carry a span to the next process."""
        # Not by the library's propagator, which takes 5 us.
        place = span.get_span_context()
        parent = f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}"
        pairs = (parent, place.trace_state.to_header())
        return tuple(pair for pair in zip(TRACE_HEADERS, pairs, strict=True) if pair[1])

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
            self._follows_caller = _follows_caller(trace.get_tracer_provider())
            self._tracer = trace.get_tracer("arena_llm")
        return True

    def _make_provider(self) -> Any:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        name = os.environ.get("OTEL_SERVICE_NAME") or self._service
        self._roots = _make_roots()
        resource = Resource.create({"service.name": name})
        provider = TracerProvider(resource=resource, id_generator=self._roots)
        self._roots.sampler = provider.sampler
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return provider


def _follows_caller(provider: Any) -> bool:
    """Whether a provider's sampler drops each call whose caller's trace is not kept."""
    from opentelemetry import trace

    try:
        from opentelemetry.sdk.trace.sampling import ParentBased
    except ImportError:  # the program has another provider
        return False
    sampler = getattr(provider, "sampler", None)
    if not isinstance(sampler, ParentBased):
        return False
    caller = trace.NonRecordingSpan(trace.SpanContext(1, 1, is_remote=True))
    probe: Any = sampler.should_sample(trace.set_span_in_context(caller), 1, "probe")
    return not probe.decision.is_recording()


def _make_roots() -> Any:
    """Return an object that decides, without a span, whether a trace that begins here is kept.

    The library would make a span first, which takes 15 us. The object is also the library's
    generator of ids, because the decision depends on the id.
    """
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.trace import SpanKind

    nowhere = Context()

    class Roots(RandomIdGenerator):
        sampler: Any = None
        _chosen = 0

        def keeps(self, trace_id: int, name: str) -> bool:
            result = self.sampler.should_sample(nowhere, trace_id, name, SpanKind.SERVER)
            is_kept = bool(result.decision.is_recording())
            if is_kept:
                self._chosen = trace_id
            return is_kept

        def generate_trace_id(self) -> int:
            chosen, self._chosen = self._chosen, 0
            return chosen or super().generate_trace_id()

    return Roots()


def continue_trace(metadata: Pairs, headers: Pairs) -> Pairs:
    """The headers of a call that is forwarded. headers: of `Tracing.accept`."""
    if not headers:
        return metadata
    return tuple(pair for pair in metadata if pair[0] not in TRACE_HEADERS) + headers


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
    """Add consecutive parts of a span: the name of each, and the seconds from `began` to its end.

    began: by time.time().
    """
    if span is None:
        return
    start = began
    for name, seconds in parts:
        part = tracing.start(name, parent=span, at=start)
        start = max(start, began + seconds)
        tracing.end(part, at=start)
