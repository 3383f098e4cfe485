"""What a model call sends, and the reply that a run stores of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf import json_format

from arena.agents.calls import ModelCall, ModelReply
from arena.experiment.model_calls import ModelCaller
from arena.experiment.prices import PriceEntry
from arena_llm import AsyncClient, Availability, Capability, Model, ModelState
from arena_llm.errors import UnsupportedError
from arena_llm.types import (
    CallReport,
    Choices,
    Completion,
    FinishReason,
    GenerationRequest,
    JsonSchema,
    Message,
    ProviderRouting,
    Refusal,
    Sampling,
    ScoringRequest,
    TokenTrace,
    Usage,
)
from arena_llm.v1 import reply_pb2
from arena_llm.wire import from_message
from services.common.errors import ConstraintNotMet, InvalidRequest, Unsupported
from services.common.servicer import LlmServicer
from tests.support.model_calls import (
    ATTEMPTS,
    CALL,
    ID,
    KEY,
    SERVED_BY,
    TOKENS,
    USAGE,
    ModelBackend,
    models,
)
from tests.support.scripted import completion, serving


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
    stored = json_format.Parse(reply.tokens, reply_pb2.TokenTrace())
    assert from_message(stored, TokenTrace) == TOKENS


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


async def test_the_experiments_prices_are_for_costs_that_nobody_else_knows() -> None:
    prices = {"hf_model": PriceEntry(prompt=2, completion=3, cached=0.5, request=0.01).price}
    backend = ModelBackend()
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
