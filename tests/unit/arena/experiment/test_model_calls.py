"""Model calls with the real client and a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from arena.agents.calls import ModelCall, ModelReply
from arena.experiment.model_calls import ModelCaller
from arena.results.rows import CallKey
from arena_llm import AsyncClient
from arena_llm.errors import ResourceExhaustedError, UnsupportedError
from arena_llm.types import (
    Choices,
    Completion,
    FinishReason,
    Message,
    Sampling,
    Score,
    Scoring,
    ScoringRequest,
    Usage,
)
from services.common.errors import InvalidRequest, Overloaded, RateLimited, Unsupported
from services.common.servicer import LlmServicer
from tests.support.scripted import ScriptedBackend, serving

KEY = CallKey("tic_tac_toe/0/a,b", 3, 1, 0)
CALL = ModelCall("hf_model", (("system", "s"), ("user", "u")), {"temperature": 0.5})


class Backend(ScriptedBackend):
    """Its completions have every field that a completion can have."""

    async def score(self, request: ScoringRequest) -> Scoring:
        await super().score(request)
        scores = tuple(Score(text, -float(len(text)), 1) for text in request.continuations)
        return Scoring(scores, Usage(3, 1), request.model)

    async def generate_response(self, request: object) -> Completion:
        plain = await super().generate_response(request)  # type: ignore[arg-type]  # unchanged
        usage = Usage(10, 5, 2, 1, cost_usd=0.25)
        return replace(
            plain, reasoning="why", usage=usage, model="hf_real", finish_reason=FinishReason.LENGTH
        )


@asynccontextmanager
async def models(timeout: float = 60.0) -> AsyncIterator[tuple[Backend, ModelCaller]]:  # noqa: ASYNC109 - of the client
    backend = Backend()
    async with (
        serving(LlmServicer(backend)) as server,
        AsyncClient(server.address, timeout=timeout) as client,
    ):
        yield backend, ModelCaller(client, "tournament")


async def test_a_completion() -> None:
    async with models() as (backend, ask):
        backend.enqueue("x(0,0)")
        reply = await ask(KEY, CALL)
    assert reply == ModelReply(
        "x(0,0)", "hf_real", reply.latency_ms, "why", "length", 10, 5, 2, 0.25
    )
    assert reply.latency_ms > 0
    (request,) = backend.history
    assert request.input == (Message("system", "s"), Message("user", "u"))
    assert request.sampling == Sampling(temperature=0.5)
    assert request.labels == {"experiment": "tournament", "player": "player_1"}


async def test_each_episode_is_a_session() -> None:
    async with models() as (backend, ask):
        for key in (KEY, replace(KEY, ply=4, seat=0), replace(KEY, episode="é" * 300)):
            await ask(key, CALL)
    first, second, other = [request.session for request in backend.history]
    assert first == second != other
    assert all(one.isascii() and len(one) <= 64 for one in (first, other))


async def test_choices() -> None:
    async with models() as (backend, ask):
        backend.enqueue("b")
        await ask(KEY, replace(CALL, choices=("a", "b")))
    assert backend.history[0].constraint == Choices(("a", "b"))  # type: ignore[union-attr]  # a generation


async def test_a_reply_that_breaks_the_constraint_is_a_reply() -> None:
    took = {"attempts": "2", "prompt_tokens": "24", "completion_tokens": "9"}
    call = replace(CALL, choices=("a", "b"))
    async with models() as (backend, ask):
        backend.enqueue(
            Unsupported("never", field="constraint.choices", metadata=took | {"cost_usd": "1e-05"}),
            InvalidRequest("cut off", field="config.max_tokens", metadata=took),
            Unsupported("not asked", field="constraint.choices"),
        )
        never, cut = await ask(KEY, call), await ask(KEY, call)
        assert never == ModelReply(
            "", "hf_model", never.latency_ms, "", "", prompt_tokens=24, completion_tokens=9,
            cost_usd=1e-05,
        )  # fmt: skip
        assert cut == ModelReply(
            "", "hf_model", cut.latency_ms, "", "length", prompt_tokens=24, completion_tokens=9
        )
        with pytest.raises(UnsupportedError, match="not asked"):
            await ask(KEY, call)


async def test_scores() -> None:
    async with models() as (backend, ask):
        call = ModelCall("hf_model", (("user", "u"),), continuations=("a", "bb"))
        reply = await ask(KEY, call)
    assert reply == ModelReply("", "hf_model", reply.latency_ms, logprobs=(-1.0, -2.0))
    assert isinstance(backend.history[0], ScoringRequest)


async def test_full_queues_and_rate_limits_are_waited_out() -> None:
    async with models() as (backend, ask):
        backend.enqueue(Overloaded("full", retry_after=0.0), RateLimited("slow", retry_after=0.05))
        reply = await ask(KEY, CALL)
    assert reply.text == "ok"
    assert len(backend.history) == 3
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
            await ask(KEY, replace(CALL, sampling={"timeout": timeout}))
    assert len(backend.history) == 1
