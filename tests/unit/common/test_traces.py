"""Which calls a server traces. In processes of their own: a process has one provider of traces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

KEPT, DROPPED = f"00-{'a' * 32}-{'b' * 16}-01", f"00-{'a' * 32}-{'b' * 16}-00"

#: Prints for each of these headers whether the call has a span, whether a span inside it has one,
#: and the header with which the trace continues in the next process.
ACCEPT = """
import contextvars, json, os, sys
from arena_llm.tracing import tracing

def accept(header):
    pairs = (("user-agent", "x"), *((("traceparent", header),) if header else ()))
    span, headers = tracing.accept("Generate", pairs, 1.0)
    inside = tracing.start("inside")
    return span is not None, inside is not None, dict(headers).get("traceparent")

headers = json.loads(sys.argv[1])
print(json.dumps([contextvars.copy_context().run(accept, header) for header in headers]))
sys.stdout.flush()
os._exit(0)  # nobody receives the spans
"""


def accept(sampler: str, *headers: str) -> list[Any]:
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_TRACES_SAMPLER": sampler,
        "OTEL_TRACES_SAMPLER_ARG": "0.5",
    }
    command = [sys.executable, "-c", ACCEPT, json.dumps(headers)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: list[Any] = json.loads(done.stdout)
    return found


def test_a_trace_is_kept_or_dropped_as_a_whole() -> None:
    kept, dropped, *roots = accept("parentbased_traceidratio", KEPT, DROPPED, *[""] * 400)
    assert kept[:2] == [True, True]
    assert kept[2].split("-")[1] == "a" * 32
    assert kept[2].split("-")[2] != "b" * 16
    assert dropped == [False, False, None]  # the caller's header stays
    for has_span, has_inner, header in roots:
        assert has_span == has_inner
        assert bool(int(header[-2:], 16) & 1) == has_span  # the next process does the same
    assert len({header.split("-")[1] for _, _, header in roots}) == len(roots)
    assert 120 < sum(has_span for has_span, _, _ in roots) < 280  # half of them


def test_a_sampler_that_does_not_follow_the_caller_is_asked() -> None:
    ((has_span, has_inner, header),) = accept("always_on", DROPPED)
    assert has_span
    assert has_inner
    assert int(header[-2:], 16) & 1
