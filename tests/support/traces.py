"""A receiver of OTLP traces in this process."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


class Receiver(TraceServiceServicer):
    """Keeps the spans of all processes, each with the name of its service."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]
        return otlp.ExportTraceServiceResponse()


@contextmanager
def receiving() -> Iterator[tuple[Receiver, dict[str, str]]]:
    """Yield the receiver, and the variables that make a process send its spans to it soon."""
    server = grpc.server(ThreadPoolExecutor(2))
    found = Receiver()
    add_TraceServiceServicer_to_server(found, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield (
            found,
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
                "OTEL_BSP_SCHEDULE_DELAY": "100",
            },
        )
    finally:
        server.stop(None)


def attributes(span: Any) -> dict[str, Any]:
    """The attributes of a span that are texts or whole numbers."""
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
