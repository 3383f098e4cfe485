"""Model calls with the real client and a real server."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from arena.agents.calls import ModelCall, ModelReply
from arena.experiment.model_calls import ModelCaller
from arena.experiment.patience import ModelAway
from arena.experiment.prices import PriceEntry
from arena.results.rows import CallKey
from arena.results.tokens import tokens_from_json
from arena_llm import AsyncClient, Availability, Capability, Model, ModelState
from arena_llm.errors import ResourceExhaustedError, UnavailableError, UnsupportedError
from arena_llm.types import (
    Attempt,
    CallReport,
    Choices,
    Completion,
    CostBasis,
    Enforcement,
    FinishReason,
    GenerationRequest,
    JsonSchema,
    Message,
    ProviderRouting,
    Reasoning,
    Refusal,
    Sampling,
    Score,
    Scoring,
    ScoringRequest,
    ServedBy,
    TokenTrace,
    Usage,
)
from services.common.errors import (
    BackendDown,
    BackendError,
    ConstraintNotMet,
    InvalidRequest,
    Overloaded,
    RateLimited,
    Unsupported,
    UpstreamUnavailable,
)
from services.common.servicer import LlmServicer
from tests.support.scripted import ScriptedBackend, completion, serving
from tests.support.waiting import eventually

KEY = CallKey("tic_tac_toe/0/a,b", 3, 1, 0)
ID = "0123456789abcdef-0"
CALL = ModelCall("hf_model", (("system", "s"), ("user", "u")), {"temperature": 0.5})


USAGE = Usage(10, 5, 2, 1, cost_picousd=25 * 10**10, cost_basis=CostBasis.BILLED)
SERVED_BY = ServedBy("hf", "hf_real", provider="there", precision="fp8")
TOKENS = TokenTrace(ids=(1, 2), logprobs=(-0.5, -math.inf), bytes=(b"x", b"\xc3"))
ATTEMPTS = (
    Attempt("here", http_status=500, reason="UPSTREAM_UNAVAILABLE", cost_picousd=3),
    Attempt("there", http_status=200, cost_picousd=7),
)


class Backend(ScriptedBackend):
    """Its completions have every field that a completion can have."""

    usage = USAGE
    attempts = ATTEMPTS

    async def score(self, request: ScoringRequest) -> Scoring:
        await super().score(request)
        texts = [continuation.text or "" for continuation in request.continuations]
        scores = tuple(Score(-float(len(text))) for text in texts)
        return Scoring(scores, usage=Usage(3, 1))

    async def generate_response(self, request: GenerationRequest) -> Completion:
        plain = await super().generate_response(request)
        return replace(
            plain,
            message=Message("assistant", (Reasoning("why"), *plain.message.parts)),
            usage=self.usage,
            served_by=SERVED_BY,
            finish_reason=FinishReason.LENGTH,
            completion_tokens=TOKENS,
            attempts=self.attempts,
            enforcement=Enforcement.PROVIDER,
        )


@asynccontextmanager
async def models(
    timeout: float = 60.0,  # noqa: ASYNC109 - of the client
    patience: float = 0,
) -> AsyncIterator[tuple[Backend, ModelCaller]]:
    backend = Backend()
    async with (
        serving(LlmServicer(backend)) as server,
        AsyncClient(server.address, timeout=timeout) as client,
    ):
        yield backend, ModelCaller(client, "tournament", patience=patience)


async def test_a_completion() -> None:
    async with models() as (backend, ask):
        backend.enqueue("x(0,0)")
        reply = await ask(KEY, CALL, ID)
    assert reply == ModelReply(
        "x(0,0)", "hf_real", reply.latency_ms, "why", "length", 10, 5, 2, 25 * 10**10,
        cost_basis="billed", request_id=reply.request_id, attempts=2, failed_attempts_picousd=3,
        enforcement="provider", served_by=reply.served_by,
    )  # fmt: skip
    assert (reply.served_by.provider, reply.served_by.precision) == ("there", "fp8")
    assert reply.latency_ms > 0
    (request,) = backend.history
    assert isinstance(request, GenerationRequest)
    assert request.messages == (Message("system", "s"), Message("user", "u"))
    assert request.sampling == Sampling(temperature=0.5)
    assert request.request_id == reply.request_id == ID
    assert request.labels["experiment"] == "tournament"
    assert request.labels["player"] == "player_1"
    assert {"game", "ply"} <= request.labels.keys()  # a trace is found by them


SCHEMA = '{"type": "object"}'


@pytest.mark.parametrize("structured", [True, False])
async def test_a_schema_is_sent_where_the_model_has_structured_output(structured: bool) -> None:
    capabilities = (Capability.CHAT, *([Capability.JSON_SCHEMA] if structured else []))
    async with models() as (backend, ask):
        model = Model("hf_model", capabilities=capabilities)
        backend.availability = Availability(True, ModelState.READY, model=model)
        backend.default = "{}"
        await ask(KEY, replace(CALL, preferred_schema=SCHEMA), ID)
        await ask(replace(KEY, ply=4), CALL, "another")
    with_schema, without = backend.history
    assert isinstance(with_schema, GenerationRequest)
    assert isinstance(without, GenerationRequest)
    assert with_schema.constraint == (JsonSchema(SCHEMA) if structured else None)
    assert without.constraint is None


async def test_a_model_writes_freely_if_the_schema_is_refused() -> None:
    async with models() as (backend, ask):
        model = Model("hf_model", capabilities=(Capability.JSON_SCHEMA,))
        backend.availability = Availability(True, ModelState.READY, model=model)

        async def answer(request: GenerationRequest) -> Completion:
            backend.history.append(request)
            if request.constraint is not None:
                raise InvalidRequest("too complex", field="constraint.json_schema")
            return completion("freely")

        backend.generate_response = answer  # type: ignore[method-assign]
        reply = await ask(KEY, replace(CALL, preferred_schema=SCHEMA), ID)
    assert reply.text == "freely"
    assert len(backend.history) == 2


async def test_the_tokens_are_kept_on_request() -> None:
    async with models() as (_, ask):
        reply = await ask(KEY, replace(CALL, sampling={"token_ids": True}, store_tokens=True), ID)
    assert tokens_from_json(reply.tokens) == TOKENS


async def test_the_same_call_again_gets_the_same_reply() -> None:
    """As after a kill: it is paid once, and the reply says what was paid."""
    async with models() as (backend, ask):
        first, again = await ask(KEY, CALL, ID), await ask(KEY, CALL, ID)
        assert len(backend.history) == 1
    assert again == replace(first, replayed=True, latency_ms=again.latency_ms)
    assert again.cost_picousd == USAGE.cost_picousd


async def test_a_refusal_is_a_reply() -> None:
    async with models() as (backend, ask):
        refusal = Message("assistant", Refusal("I can't."))
        backend.enqueue(Completion(refusal, FinishReason.REFUSAL))
        reply = await ask(KEY, CALL, ID)
    assert (reply.text, reply.refusal) == ("", "I can't.")


async def test_every_option_is_sent() -> None:
    routing = {"providers": ["a", "b"], "allow_fallbacks": False}
    options = {
        "reasoning_effort": "low", "logit_bias": {7: -1}, "top_logprobs": 2, "routing": routing,
        "template_arguments": {"x": 1}, "provider_options": {"y": [2]},
    }  # fmt: skip
    async with models() as (backend, ask):
        await ask(KEY, replace(CALL, sampling=options), ID)
    (request,) = backend.history
    assert isinstance(request, GenerationRequest)
    assert request.reasoning.effort == "low"
    assert request.sampling.logit_bias == {7: -1}
    assert request.returns.top_logprobs == 2
    assert request.routing == ProviderRouting(("a", "b"), allow_fallbacks=False)
    assert (request.template_arguments, request.provider_options) == ({"x": 1}, {"y": [2]})


async def test_each_episode_is_a_session() -> None:
    async with models() as (backend, ask):
        keys = (KEY, replace(KEY, ply=4, seat=0), replace(KEY, episode="é" * 300))
        for number, key in enumerate(keys):
            await ask(key, CALL, f"id-{number}")
    first, second, other = [request.session for request in backend.history]
    assert first == second != other
    assert all(one.isascii() and len(one) <= 64 for one in (first, other))


async def test_choices() -> None:
    async with models() as (backend, ask):
        backend.enqueue("b")
        await ask(KEY, replace(CALL, choices=("a", "b")), ID)
    assert backend.history[0].constraint == Choices(("a", "b"))  # type: ignore[union-attr]  # a generation


async def test_a_reply_that_breaks_the_constraint_is_a_reply() -> None:
    call = replace(CALL, choices=("a", "b"))
    usage = Usage(24, 9, cost_picousd=10**7)
    report = CallReport("id", ATTEMPTS, usage, SERVED_BY)
    async with models() as (backend, ask):
        backend.enqueue(
            ConstraintNotMet("never", report=report),
            InvalidRequest("cut off", field="config.max_tokens", report=report),
            Unsupported("not asked", field="constraint.choices"),
        )
        never, cut = await ask(KEY, call, ID), await ask(KEY, call, ID)
        assert never == ModelReply(
            "", "hf_real", never.latency_ms, "", "", 24, 9, None, 10**7, attempts=2,
            failed_attempts_picousd=3, request_id=never.request_id, served_by=never.served_by,
        )  # fmt: skip
        assert never.served_by.provider == "there"
        assert cut == replace(
            never, finish_reason="length", latency_ms=cut.latency_ms, request_id=cut.request_id
        )
        with pytest.raises(UnsupportedError, match="not asked"):
            await ask(KEY, call, ID)


async def test_scores() -> None:
    async with models() as (backend, ask):
        call = ModelCall("hf_model", (("user", "u"),), continuations=("a", "bb"))
        reply = await ask(KEY, call, ID)
    assert (reply.text, reply.model, reply.logprobs) == ("", "hf_model", (-1.0, -2.0))
    assert (reply.prompt_tokens, reply.completion_tokens) == (3, 1)
    assert isinstance(backend.history[0], ScoringRequest)


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


async def test_the_experiments_prices_are_for_costs_that_nobody_else_knows() -> None:
    prices = {"hf_model": PriceEntry(prompt=2, completion=3, cached=0.5, request=0.01).price}
    backend = Backend()
    backend.forwards_calls = True  # it is not known to be free
    async with serving(LlmServicer(backend)) as server, AsyncClient(server.address) as client:
        ask = ModelCaller(client, "tournament", prices)
        billed = await ask(KEY, CALL, ID)
        backend.usage = replace(USAGE, cost_picousd=None, cost_basis=None)
        backend.attempts = (ATTEMPTS[0], replace(ATTEMPTS[1], cost_picousd=None))
        priced = await ask(KEY, CALL, ID + "1")
    assert billed.cost_picousd == USAGE.cost_picousd
    # 9 prompt tokens, 1 from a cache, 5 completion tokens, a request, and the failed attempt.
    assert priced.cost_picousd == 9 * 2 * 10**6 + 10**6 // 2 + 5 * 3 * 10**6 + 10**10 + 3
    assert (priced.cost_basis, priced.unknown_attempts) == ("price_list", 0)


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
    backend, begun = Backend(), time.time()
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


async def test_other_errors_are_not_waited_for() -> None:
    async with models(patience=60) as (backend, ask):
        backend.enqueue(UpstreamUnavailable("no hint"))
        with pytest.raises(UnavailableError):
            await ask(KEY, CALL, ID)


async def test_a_try_that_was_lost_before_the_model_went_away_is_not_forgotten() -> None:
    """The last error says that nothing was sent, but an earlier try may have been billed."""
    gone = BackendDown("gone", metadata={"reached": "true"})
    down = BackendDown("down", metadata={"reached": "false"})
    backend = Backend()
    async with serving(LlmServicer(backend)) as server, AsyncClient(server.address) as client:
        backend.enqueue(gone, *[down] * 9)
        with pytest.raises(ModelAway) as caught:
            await ModelCaller(client, "tournament", patience=0.8)(KEY, CALL, ID)
    (attempt,) = caught.value.error.report.attempts
    assert (attempt.reason, attempt.cost_picousd) == ("CONNECTION_LOST", None)
