"""A run waits for full queues, rate limits and models that are away, and counts what that took."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from arena.experiment.model_calls import ModelCaller
from arena.experiment.patience import ModelAway, RouterAway
from arena_llm import AsyncClient
from arena_llm.errors import ResourceExhaustedError, UnavailableError, UnsupportedError
from arena_llm.types import Attempt, CallReport, Usage
from services.common.errors import (
    BackendDown,
    BackendError,
    Overloaded,
    RateLimited,
    Unsupported,
    UpstreamUnavailable,
)
from services.common.servicer import LlmServicer
from tests.support.model_calls import (
    ATTEMPTS,
    CALL,
    ID,
    KEY,
    SERVED_BY,
    ModelBackend,
    models,
)
from tests.support.ports import free_ports
from tests.support.scripted import completion, serving
from tests.support.waiting import eventually


async def test_full_queues_and_rate_limits_are_waited_out() -> None:
    async with models() as (backend, ask):
        backend.enqueue(Overloaded("full", retry_after=0.0), RateLimited("slow", retry_after=0.05))
        reply = await ask(KEY, CALL, ID)
    assert reply.text == "ok"
    assert [request.request_id for request in backend.history] == [ID] * 3  # type: ignore[union-attr]
    assert reply.latency_ms >= 200  # two pauses of at least a tenth


@pytest.mark.parametrize(
    ("retry_after", "timeout"),
    [
        (None, 60.0),
        (90.0, 60.0),  # longer than the time limit
        (5.0, 4.0),
    ],
)
async def test_errors_that_are_not_waited_out(retry_after: float | None, timeout: float) -> None:  # noqa: ASYNC109 - of the call
    async with models() as (backend, ask):
        backend.enqueue(RateLimited("slow", retry_after=retry_after))
        with pytest.raises(ResourceExhaustedError, match="slow"):
            await ask(KEY, replace(CALL, sampling={"timeout": timeout}), ID)
    assert len(backend.history) == 1


async def test_what_earlier_tries_took_is_counted() -> None:
    """A try that is waited out may have paid for a first reply, or may not know what it paid."""
    first = CallReport(ID, ATTEMPTS[:1], Usage(4, 1, cost_picousd=3), SERVED_BY)
    unclear = CallReport(ID, (Attempt("here", reason="UPSTREAM_UNAVAILABLE"),))
    async with models() as (backend, ask):
        backend.enqueue(
            RateLimited("slow", retry_after=0.0, report=first),
            RateLimited("slow", retry_after=0.0, report=unclear),
        )
        reply = await ask(KEY, CALL, ID)
        backend.enqueue(RateLimited("slow", retry_after=0.0, report=first), Unsupported("no"))
        with pytest.raises(UnsupportedError) as caught:
            await ask(KEY, CALL, f"{ID}-other")
    assert (reply.prompt_tokens, reply.completion_tokens, reply.attempts) == (14, 6, 4)
    # 3 for the first try, and 3 and 7 for the attempts of the last one.
    assert (reply.cost_picousd, reply.failed_attempts_picousd) == (13, 6)
    assert reply.unknown_attempts == 1
    assert caught.value.report.usage.cost_picousd == 3


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (BackendDown("is restarted", metadata={"reached": "false"}), 0),
        (BackendDown("broke", metadata={"reached": "true"}), 1),
        (UpstreamUnavailable("overloaded", retry_after=0.01), 0),
    ],
)
async def test_a_model_that_is_not_available_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, error: BackendError, lost: int
) -> None:
    """The pause does not count for the call's time limit, nor for its latency."""
    monkeypatch.setattr("arena.experiment.patience._FIRST", 0.01)
    async with models(patience=60) as (backend, ask):
        for outcome in (error, error, "x(0,0)"):
            backend.enqueue(outcome)
        reply = await ask(KEY, CALL, ID)
    assert reply.text == "x(0,0)"
    assert reply.unknown_attempts == 2 * lost


async def test_a_run_knows_for_which_models_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arena.experiment.patience._FIRST", 0.01)
    backend, begun = ModelBackend(), time.time()
    async with serving(LlmServicer(backend)) as server, AsyncClient(server.address) as client:
        caller = ModelCaller(client, "tournament", patience=60)
        backend.enqueue(BackendDown("is gone", retry_after=5), "x(0,0)")
        asking = asyncio.create_task(caller(KEY, CALL, ID))
        await eventually(lambda: caller.outages)
        (found,) = caller.outages.items()
        asking.cancel()
        await asyncio.wait([asking])
        assert found[0] == "hf_model"
        assert begun <= found[1].since <= time.time()
        assert found[1].until == found[1].since + 60
        assert "is gone" in found[1].reason
        await caller(KEY, CALL, ID)
        assert caller.outages == {}


@pytest.mark.parametrize("hint", [None, 0.01])
async def test_patience_ends(monkeypatch: pytest.MonkeyPatch, hint: float | None) -> None:
    """For a model, not for a call: a second call does not wait as long again."""
    monkeypatch.setattr("arena.experiment.patience._FIRST", 0.01)
    error = BackendDown("is gone", retry_after=hint)
    async with models(patience=0.1) as (backend, ask):
        backend.enqueue(*[error] * 50)
        with pytest.raises(ModelAway, match=r"hf_model was not available for 0.1 s: UNAVAILABLE"):
            await ask(KEY, CALL, ID)
        tries = len(backend.history)
        assert tries > 1
        with pytest.raises(ModelAway):
            await ask(KEY, CALL, ID)
        assert len(backend.history) == tries + 1


async def test_a_router_that_cannot_be_reached_is_not_the_models_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where others may reach it, a run waits less long for it, and does not give the model up."""
    monkeypatch.setattr("arena.experiment.patience._FIRST", 0.01)
    async with AsyncClient(f"127.0.0.1:{free_ports(1)[0]}") as client:
        ask = ModelCaller(client, "tournament", patience=600)
        ask.limit_router_patience(0.05)
        with pytest.raises(RouterAway, match="nothing answers") as caught:
            await ask(KEY, CALL, ID)
    assert caught.value.error.reason == "UNREACHABLE"


async def test_other_errors_are_not_waited_for() -> None:
    async with models(patience=60) as (backend, ask):
        backend.enqueue(UpstreamUnavailable("no hint"))
        with pytest.raises(UnavailableError):
            await ask(KEY, CALL, ID)


async def test_a_try_that_was_lost_before_the_model_went_away_is_not_forgotten() -> None:
    """The last error says that nothing was sent, but an earlier try may have been billed."""
    gone = BackendDown("gone", metadata={"reached": "true"})
    down = BackendDown("down", metadata={"reached": "false"})
    backend = ModelBackend()
    async with serving(LlmServicer(backend)) as server, AsyncClient(server.address) as client:
        backend.enqueue(gone, *[down] * 9)
        with pytest.raises(ModelAway) as caught:
            await ModelCaller(client, "tournament", patience=0.8)(KEY, CALL, ID)
    (attempt,) = caught.value.error.report.attempts
    assert (attempt.reason, attempt.cost_picousd) == ("CONNECTION_LOST", None)


@pytest.mark.parametrize("is_found", [False, True])
async def test_an_attempt_that_the_router_lost_counts_once(
    monkeypatch: pytest.MonkeyPatch, is_found: bool
) -> None:
    """The service that answers the next try may know what it took."""
    monkeypatch.setattr("arena.experiment.patience._FIRST", 0.01)
    report = CallReport(attempts=(Attempt(reason="BACKEND_DOWN"),))
    gone = BackendDown("gone", metadata={"reached": "true"}, report=report)
    found = (Attempt("p", "u", reason="INTERRUPTED"),) if is_found else ()
    attempts = (*found, Attempt("p", "v", 200, cost_picousd=5))
    async with models(patience=60) as (backend, ask):
        backend.enqueue(gone, replace(completion("x(0,0)"), attempts=attempts))
        reply = await ask(KEY, CALL, ID)
    assert reply.unknown_attempts == 1
