"""Other models answer if the requested one cannot, and the reply says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from pydantic import ValidationError

from arena.agents.calls import ModelCall
from arena.experiment.model_calls import ModelCaller
from arena.results.rows import CallKey
from arena_llm import AsyncClient, FailedPreconditionError
from arena_llm.types import Attempt, CallReport, CostBasis, Delta, FreePrice, Progress, Usage
from arena_llm.v1 import error_pb2, models_pb2
from router.config import RouterConfig
from router.fallback import REASONS, UNFIT
from router.servicer import Router
from services.common import errors
from services.common.errors import BackendError
from tests.support.logs import capture_logs
from tests.support.ports import free_ports
from tests.support.scripted import ScriptedBackend, completion, scripted, serving
from tests.support.wire import details, failure, read_completion, reason, request

A, B, C = MODELS = ("a_model", "b_model", "c_model")
NAMES = {"fallback_models": {"names": [B, C]}}
RPCS = pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])

CREDITS = errors.InsufficientCredits("no credits", metadata={"upstream_status": "402"})


class House(NamedTuple):
    """A router in front of three backends."""

    llm: Any
    a: ScriptedBackend
    b: ScriptedBackend
    c: ScriptedBackend

    async def ask(self, rpc: str, **fields: Any) -> Any:
        """Return the completion of a call."""
        call = getattr(self.llm, rpc)(request(A, **fields))
        return await read_completion(call, rpc)

    async def fail(self, rpc: str, **fields: Any) -> Any:
        return await failure(getattr(self.llm, rpc)(request(A, **fields)))


@asynccontextmanager
async def _house(routed: Any, **settings: Any) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(scripted(name)) for name in ("a", "b", "c")]
        routes = {f"{backend.name}_": [server.address] for backend, server in pairs}
        llm = await stack.enter_async_context(routed(settings=settings, **routes))
        yield House(llm, *(backend for backend, _ in pairs))


@pytest.fixture
async def house(routed: Any) -> AsyncIterator[House]:
    async with _house(routed) as made:
        yield made


def list_errors() -> list[type[BackendError]]:
    """One class for each reason that a backend can answer with."""
    found = {kind.reason: kind for kind in BackendError.__subclasses__()}
    kept = {"UNKNOWN_PREFIX", "CLIENT_TOO_OLD", "ROUTE_LOOP", "DEADLINE_EXCEEDED", "BACKEND_DOWN"}
    return [kind for reason, kind in found.items() if reason not in kept]


@RPCS
@pytest.mark.parametrize("kind", list_errors(), ids=lambda kind: kind.reason)
async def test_only_what_waiting_does_not_cure_leads_to_another_model(
    house: House, rpc: str, kind: type[BackendError]
) -> None:
    house.a.enqueue(kind("it failed"))
    if kind.reason not in REASONS:
        error = await house.fail(rpc, **NAMES)
        assert (reason(error), error.details()) == (kind.reason, "it failed")
        assert not house.b.history
        return
    answer = await house.ask(rpc, **NAMES)
    assert (answer.text, answer.served_by.backend, answer.served_by.model) == ("ok", "b", B)
    ((failed),) = answer.failed_models
    assert (failed.model, failed.detail) == (A, "it failed")
    assert failed.reason == error_pb2.ErrorReason.Value(f"ERROR_REASON_{kind.reason}")
    assert not house.c.history


@RPCS
async def test_without_a_list_no_other_model_answers(house: House, rpc: str) -> None:
    for fields in ({}, {"fallback_models": {}}):
        house.a.enqueue(CREDITS)
        error = await house.fail(rpc, **fields)
        assert (reason(error), error.details()) == ("INSUFFICIENT_CREDITS", "no credits")
    assert house.b.history == house.c.history == []


@RPCS
async def test_the_next_model_gets_the_same_request_under_its_name(house: House, rpc: str) -> None:
    for large in ("", "x" * 200_000):
        house.a.enqueue(CREDITS)
        fields = {"session": "s", "labels": {"k": "v"}, "request_id": f"id{len(large)}"}
        answer = await house.ask(rpc, prompt=f"hi{large}", config={"seed": 3}, **fields, **NAMES)
        assert answer.request_id == fields["request_id"]
        (asked, got) = (house.a.history.pop(), house.b.history.pop())
        assert (asked.model, got.model) == (A, B)
        without = {"model": "", "deadline": None, "fallback_models": None}
        assert replace(got, **without) == replace(asked, **without)
        assert got.fallback_models is None


@RPCS
async def test_every_model_that_failed_is_in_the_reply_and_in_the_log(
    house: House, rpc: str
) -> None:
    """A model of the list may also be unfit for a request that was written for another one."""
    house.a.enqueue(CREDITS)
    house.b.enqueue(errors.Unsupported("no images", field="constraint.regex"))
    with capture_logs() as lines:
        answer = await house.ask(rpc, **NAMES)
    assert [one.model for one in answer.failed_models] == [A, B]
    path = f"{A}: INSUFFICIENT_CREDITS, {B}: UNSUPPORTED"
    assert any(line.get("failed_models") == path for line in lines)
    assert UNFIT > REASONS


def paid(cost: int | None, status: int = 402) -> CallReport:
    return CallReport(
        attempts=(Attempt("p", "u", status, cost_picousd=cost),), usage=Usage(cost_picousd=cost)
    )


@RPCS
@pytest.mark.parametrize(("cost", "total"), [(0, 30), (12, 42), (None, None)])
async def test_the_bill_has_the_failed_attempts(
    house: House, rpc: str, cost: int | None, total: int | None
) -> None:
    house.a.enqueue(errors.RefusedByProvider("no", report=paid(cost)))
    usage = Usage(3, 1, cost_picousd=30, cost_basis=CostBasis.BILLED)
    answered = replace(completion("e4"), usage=usage, attempts=(Attempt("q", "v", 200),))
    house.b.enqueue([Delta(text="e4"), answered] if rpc == "StreamGenerate" else answered)
    answer = await house.ask(rpc, **NAMES)
    assert [attempt.upstream_id for attempt in answer.attempts] == ["u", "v"]
    assert answer.usage.HasField("cost_picousd") == (total is not None)
    assert answer.usage.cost_picousd == (total or 0)


@RPCS
async def test_if_all_fail_the_last_error_says_what_failed_before(house: House, rpc: str) -> None:
    house.a.enqueue(errors.RefusedByProvider("no", report=paid(5)))
    house.b.enqueue(CREDITS)
    house.c.enqueue(errors.UpstreamUnavailable("later", retry_after=2, report=paid(7, 503)))
    error = await house.fail(rpc, **NAMES)
    found = details(error)
    assert found["RetryInfo"].retry_delay.seconds == 2
    assert found["ErrorInfo"].metadata["failed_models"] == (
        f"{A}: REFUSED_BY_PROVIDER, {B}: INSUFFICIENT_CREDITS"
    )
    assert [attempt.http_status for attempt in found["CallReport"].attempts] == [402, 503]
    assert found["CallReport"].usage.cost_picousd == 12


async def test_after_the_first_token_the_stream_is_interrupted(house: House) -> None:
    house.a.enqueue([Progress(), Delta(text="half"), CREDITS])
    call = house.llm.StreamGenerate(request(A, **NAMES))
    events = [await anext(aiter(call)) for _ in range(4)]
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["start", "progress", "delta", "interruption"]
    assert reason(await failure(call)) == "INSUFFICIENT_CREDITS"
    assert not house.b.history


async def test_signs_of_life_of_a_model_that_fails_are_forwarded(house: House) -> None:
    house.a.enqueue([Progress(), CREDITS])
    answer = await house.ask("StreamGenerate", **NAMES)
    assert (answer.text, len(answer.failed_models)) == ("ok", 1)


@RPCS
async def test_the_configuration_decides_unless_the_request_does(routed: Any, rpc: str) -> None:
    async with _house(routed, fallbacks={A: [C]}) as house:
        for fields, backend in (({}, "c"), (NAMES, "b")):
            house.a.enqueue(CREDITS)
            answer = await house.ask(rpc, **fields)
            assert answer.served_by.backend == backend
        house.a.enqueue(CREDITS)
        error = await house.fail(rpc, fallback_models={})
        assert reason(error) == "INSUFFICIENT_CREDITS"


@RPCS
async def test_a_fallback_that_is_down_is_the_error(routed: Any, rpc: str) -> None:
    async with scripted("a") as (backend, server):
        (port,) = free_ports(1)
        async with routed(a_=[server.address], b_=[f"127.0.0.1:{port}"]) as llm:
            backend.enqueue(CREDITS)
            error = await failure(getattr(llm, rpc)(request(A, fallback_models={"names": [B]})))
    assert reason(error) == "BACKEND_DOWN"
    assert details(error)["ErrorInfo"].metadata["failed_models"] == f"{A}: INSUFFICIENT_CREDITS"


WRONG = {
    "the model itself": ([A], "INVALID_REQUEST"),
    "twice": ([B, B], "INVALID_REQUEST"),
    "empty": ([""], "INVALID_REQUEST"),
    "too many": ([f"b_{n}" for n in range(9)], "INVALID_REQUEST"),
    "no backend": (["x_model"], "UNKNOWN_PREFIX"),
}


@pytest.mark.parametrize("names", WRONG)
async def test_a_wrong_list_is_refused_before_any_call(house: House, names: str) -> None:
    listed, expected = WRONG[names]
    error = await house.fail("Generate", fallback_models={"names": listed})
    assert reason(error) == expected
    assert not house.a.history


@pytest.mark.parametrize("listed", [["x_m"], [A], [B, B], []])
def test_a_wrong_configuration_is_refused(listed: list[str]) -> None:
    routes = {f"{name}_": {"targets": ["127.0.0.1:1"]} for name in "ab"}
    with pytest.raises(ValidationError, match="fallbacks"):
        RouterConfig.model_validate(
            {"listen": "127.0.0.1:0", "routes": routes, "fallbacks": {A: listed}}
        )


async def test_models_list_the_field_behind_the_router(house: House) -> None:
    state = await house.llm.IsAvailable(models_pb2.IsAvailableRequest(model=A))
    listed = (await house.llm.ListModels(models_pb2.ListModelsRequest())).models
    for model in (state.model, listed[0]):
        assert "fallback_models.names" in model.supported_fields


async def test_an_experiment_takes_no_other_model_unless_it_names_it(routed: Any) -> None:
    """The router is configured to fall back."""
    async with AsyncExitStack() as stack:
        (a, at_a), (b, at_b) = [await stack.enter_async_context(scripted(name)) for name in "ab"]
        config = RouterConfig.model_validate(
            {
                "listen": "127.0.0.1:0",
                "routes": {
                    "a_": {"targets": [at_a.address]},
                    "b_": {"targets": [at_b.address]},
                },
                "fallbacks": {A: [B]},
            }
        )
        server = await stack.enter_async_context(serving(Router(config)))
        llm = await stack.enter_async_context(AsyncClient(server.address))
        caller = ModelCaller(llm, "e", prices={B: FreePrice()})
        key, messages = CallKey("g/0/a,b", 0, 0, 0), (("user", "hi"),)

        a.enqueue(CREDITS)
        with pytest.raises(FailedPreconditionError):
            await caller(key, ModelCall(A, messages), "id1")
        assert b.history == []

        a.enqueue(CREDITS)
        reply = await caller(key, ModelCall(A, messages, {"fallback_models": [B]}), "id2")
        assert (reply.model, reply.failed_models) == (B, f"{A}: INSUFFICIENT_CREDITS")
        assert reply.cost_picousd == 0  # by the price of the model that answered
