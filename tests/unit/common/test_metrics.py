"""What the metrics count, their names, and that no caller can make labels of its own."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.attributes.rpc_attributes import RPC_METHOD
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from prometheus_client.parser import text_string_to_metric_families

from arena_llm.types import CallReport, Completion, Timings, Usage
from arena_llm.v1 import models_pb2
from router.config import RouterConfig
from router.servicer import Router
from services.common.config import ConfigError
from services.common.errors import Overloaded, RefusedByProvider
from services.common.exporter import Exporter, _render
from services.common.metric_names import METRICS
from services.common.metrics import OTHER, Meter, meter
from tests.support.scripted import completion, scripted, serving
from tests.support.waiting import eventually
from tests.support.wire import failure, request, stub

MODEL = {"gen_ai_request_model": "hf_model", "backend": "hf"}
INPUT, OUTPUT, CACHED = ({"gen_ai_token_type": kind} for kind in ("input", "output", "cached"))
PAID = Usage(prompt_tokens=30, completion_tokens=5, cached_tokens=20, cost_picousd=2_500_000_000)


@pytest.fixture(autouse=True)
def opened() -> Iterator[None]:
    """The metrics of this process, empty."""
    before = dict(vars(meter))
    vars(meter).update(vars(Meter()))
    meter.open("hf", ["hf_model"])
    yield
    vars(meter).update(before)


@pytest.fixture
async def hf() -> AsyncIterator[tuple[Any, Any]]:
    async with scripted() as (backend, server), stub(server.address) as llm:
        yield backend, llm


def figure(name: str, **labels: str) -> float:
    """The value that Prometheus would read; 0 if there is none."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(_render().decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def paid(usage: Usage = PAID, timings: Timings | None = None) -> Completion:
    return replace(completion("a1"), usage=usage, timings=timings or Timings())


async def test_a_call_is_counted_with_its_tokens_its_cost_and_its_times(hf: Any) -> None:
    backend, llm = hf
    backend.enqueue(paid(timings=Timings(0.5, 1.0, 3.0)))
    await llm.Generate(request())
    assert figure("arena_llm_calls_total", rpc_method="Generate", code="OK", **MODEL) == 1
    usage = "gen_ai_client_token_usage_sum"
    assert figure(usage, **MODEL, **INPUT) == 30
    assert figure(usage, **MODEL, **OUTPUT) == 5
    assert figure(usage, **MODEL, **CACHED) == 20
    assert figure("arena_llm_cost_usd_total", **MODEL) == 0.0025
    assert figure("arena_llm_queue_seconds_sum", **MODEL) == 0.5
    assert figure("gen_ai_server_time_to_first_token_seconds_sum", **MODEL) == 1.0
    # Two seconds for the four tokens after the first one.
    assert figure("gen_ai_server_time_per_output_token_seconds_sum", **MODEL) == 0.5
    assert figure("gen_ai_server_request_duration_seconds_count", **MODEL) == 1


async def test_a_failed_call_has_its_reason_and_what_it_cost(hf: Any) -> None:
    backend, llm = hf
    backend.enqueue(Overloaded("full", report=CallReport(usage=PAID)))
    await failure(llm.Generate(request()))
    failed = {"code": "RESOURCE_EXHAUSTED", "error_type": "OVERLOADED", **MODEL}
    await eventually(lambda: figure("arena_llm_calls_total", **failed) == 1)
    assert figure("arena_llm_cost_usd_total", **MODEL) == 0.0025


async def test_a_repeated_request_costs_nothing(hf: Any) -> None:
    backend, llm = hf
    backend.default = paid()
    for _ in range(3):
        await llm.Generate(request(request_id="same"))
    assert figure("arena_llm_calls_total", **MODEL) == 3
    assert figure("arena_llm_cost_usd_total", **MODEL) == 0.0025


async def test_what_a_caller_writes_becomes_no_label(hf: Any) -> None:
    backend, llm = hf
    backend.default = Overloaded("full")
    for number in range(20):
        await failure(llm.Generate(request(f"hf_mine-{number}")))
        await failure(llm.Generate(request(f"else-{number}")))
        await llm.IsAvailable(models_pb2.IsAvailableRequest(model=f"hf_mine-{number}"))
    text = _render().decode()
    assert "mine-" not in text
    assert "else-" not in text
    others = {"gen_ai_request_model": OTHER}
    await eventually(lambda: figure("arena_llm_calls_total", **others) == 60)

    # A model that answers is one of the provider's, whether the configuration lists it or not.
    backend.default = "ok"
    await llm.Generate(request("hf_real"))
    assert figure("arena_llm_calls_total", gen_ai_request_model="hf_real") == 1


def test_so_many_models_have_a_label_of_their_own_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.common.metrics._MOST_MODELS", 5)
    for number in range(20):
        meter.end("Generate", "OK", {"model": f"hf_{number}"}, 0.1, PAID, None)
    # The configured model is one of the five.
    assert figure("arena_llm_calls_total", gen_ai_request_model="hf_3") == 1
    assert figure("arena_llm_calls_total", gen_ai_request_model="hf_4") == 0
    assert figure("arena_llm_calls_total", gen_ai_request_model=OTHER) == 16


async def test_gauges_show_what_there_is_now(hf: Any) -> None:
    loads = {"hf_model": 3.0}
    meter.watch("waiting", lambda: [(meter.labels(name), n) for name, n in loads.items()])
    running = [{"model": "hf_model"}, {"model": "mine"}, {}]
    for fields in running:
        meter.begin(fields)
    meter.read()
    in_flight = {
        model: figure("arena_llm_calls_in_flight", gen_ai_request_model=model)
        for model in ("hf_model", OTHER, "")
    }
    assert in_flight == {"hf_model": 1, OTHER: 1, "": 1}
    assert figure("arena_llm_calls_waiting", **MODEL) == 3
    loads.clear()
    for fields in running:
        meter.end("Generate", "OK", fields, 0.1, None, None)
    meter.read()
    assert figure("arena_llm_calls_in_flight") == 0
    assert figure("arena_llm_calls_waiting", **MODEL) == 0


def test_every_name_is_prometheus_form_of_opentelemetrys() -> None:
    known = {text for text in vars(gen_ai_metrics).values() if isinstance(text, str)}
    attributes = {text for text in vars(gen_ai_attributes).values() if isinstance(text, str)}
    attributes |= {ERROR_TYPE, RPC_METHOD}
    units = {"histogram": ("", "_seconds"), "counter": ("_total",), "gauge": ("",)}
    for metric in METRICS.values():
        if metric.otel:
            assert metric.otel in known
            base = metric.otel.replace(".", "_")
            assert metric.name in [base + unit for unit in units[metric.kind]]
        else:
            assert metric.name.startswith("arena_llm_")
        for label in metric.labels:
            if label.otel:
                assert label.otel in attributes
                assert label.name == label.otel.replace(".", "_")


def test_a_port_in_use_is_named() -> None:
    first = Exporter("127.0.0.1:0", {})
    try:
        with pytest.raises(ConfigError, match=f"metrics: cannot listen on {first.address}"):
            Exporter(first.address, {})
    finally:
        first.close()


def test_a_foreign_site_cannot_read_the_figures_in_a_browser() -> None:
    """Its name may lead to 127.0.0.1."""
    exporter = Exporter("127.0.0.1:0", {})
    try:
        url = f"http://{exporter.address}/metrics"
        with urllib.request.urlopen(url) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
        foreign = urllib.request.Request(url, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign)  # noqa: S310 - http
    finally:
        exporter.close()


async def test_the_cost_of_a_failed_model_counts_under_its_own_name() -> None:
    """The router counts in the same meter as the two services, but with the backend's name."""
    report = CallReport(usage=replace(PAID, cost_picousd=7 * 10**12))
    async with scripted("a") as (backend, at_a), scripted("b") as (_, at_b):
        config = RouterConfig.model_validate(
            {
                "listen": "127.0.0.1:0",
                "routes": {"a_": {"targets": [at_a.address]}, "b_": {"targets": [at_b.address]}},
            }
        )
        async with serving(Router(config)) as router, stub(router.address) as llm:
            for rpc in ("Generate", "StreamGenerate"):
                backend.enqueue(RefusedByProvider("no", report=report))
                call = getattr(llm, rpc)(request("a_x", fallback_models={"names": ["b_x"]}))
                if rpc == "Generate":
                    await call
                else:
                    assert [event async for event in call]
    costs = {
        model: figure("arena_llm_cost_usd_total", gen_ai_request_model=model, backend=model[0])
        for model in ("a_x", "b_x")
    }
    assert costs == {"a_x": 14, "b_x": 0}
