"""What each method of both clients returns, and the metadata and deadline that go with it."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

import arena_llm
from arena_llm.types import (
    Credits,
    FinishReason,
    FreePrice,
    Message,
    Model,
    ModelState,
    ReplicaState,
    Tool,
    Usage,
)
from arena_llm.v1 import (
    REVISION,
    content_pb2,
    error_pb2,
    models_pb2,
    reply_pb2,
    score_pb2,
    service_info_pb2,
)
from tests.unit.client.scripted import MODEL, Script, models, scores, settle, text_reply


async def test_the_completion(either, script: Script) -> None:
    script.enqueue(
        text_reply(
            "x4",
            usage=reply_pb2.Usage(
                prompt_tokens=3, completion_tokens=2, cost_picousd=250_000_000_000
            ),
            id="id-1",
            timings=reply_pb2.Timings(total_seconds=1.5),
            completion_tokens=reply_pb2.TokenTrace(
                ids=[5], logprobs=[-1], top_ids=[5, 6], top_logprobs=[-1, -2], top_count=2
            ),
        )
    )
    reply = await settle(either.generate(MODEL, "hi"))
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("x4", "", "stop")
    assert reply.finish_reason is FinishReason.STOP
    assert reply.usage == Usage(prompt_tokens=3, completion_tokens=2, cost_picousd=250 * 10**9)
    assert reply.usage.cost_usd == Decimal("0.25")
    assert (reply.model, reply.backend, reply.id) == (MODEL, "hf", "id-1")
    assert reply.timings.total_seconds == 1.5
    (token,) = reply.completion_tokens
    assert (token.id, token.logprob, [t.logprob for t in token.top]) == (5, -1, [-1, -2])


async def test_score(either, script: Script) -> None:
    script.enqueue(scores(-0.5, -1.5))
    result = await settle(
        either.score(
            MODEL,
            "p",
            ["4", (7, 8)],
            boundary="joined",
            prompt_logprobs=True,
            top_logprobs=2,
            session="g",
            labels={"a": "b"},
        )
    )
    assert [(score.logprob, len(score.tokens)) for score in result] == [(-0.5, 1), (-1.5, 1)]
    assert (len(result), result[0], result[-1:]) == (2, result.scores[0], result.scores[1:])
    request = script.history[0].request
    assert request.prompt == "p"
    assert list(request.continuations) == [
        score_pb2.Continuation(text="4"),
        score_pb2.Continuation(token_ids=content_pb2.TokenIds(ids=[7, 8])),
    ]
    assert request.boundary == score_pb2.CONTINUATION_BOUNDARY_JOINED
    assert (request.prompt_logprobs, request.top_logprobs) == (True, 2)
    assert (request.session, dict(request.labels)) == ("g", {"a": "b"})


async def test_score_after_messages(either, script: Script) -> None:
    script.enqueue(scores(-0.5))
    await settle(either.score(MODEL, None, ["4"], messages=[Message("user", "u")]))
    assert script.history[0].request.conversation.messages[0].parts[0].text == "u"


async def test_count_tokens(either, script: Script) -> None:
    script.enqueue(score_pb2.CountTokensResponse(tokens=7, estimated=True))
    count = await settle(either.count_tokens(MODEL, "p", tools=[Tool("move")], return_tokens=True))
    assert (count.tokens, count.estimated, count.trace) == (7, True, None)
    request = script.history[0].request
    assert (request.prompt, request.tools[0].name, request.return_tokens) == ("p", "move", True)


async def test_service_info(either, script: Script) -> None:
    script.enqueue(
        service_info_pb2.GetServiceInfoResponse(
            service="router",
            contract_revision=7,
            backends=[
                service_info_pb2.BackendInfo(
                    backend="hf", replicas=[service_info_pb2.ReplicaInfo(address="a:1", state=3)]
                )
            ],
        )
    )
    info = await settle(either.service_info())
    assert (info.service, info.contract_revision) == ("router", 7)
    assert info.backends[0].replicas[0].state is ReplicaState.UNREACHABLE


async def test_is_available(either, script: Script) -> None:
    script.enqueue(
        models_pb2.IsAvailableResponse(
            available=True,
            state=models_pb2.MODEL_STATE_READY,
            warnings=["low"],
            reason=error_pb2.ERROR_REASON_RATE_LIMITED,
            credits=models_pb2.Credits(balance_picousd=500_000_000_000),
            model=models_pb2.ModelInfo(
                name=MODEL, price=models_pb2.Price(free=models_pb2.FreePrice())
            ),
        )
    )
    reply = await settle(either.is_available(MODEL))
    assert reply.available
    assert reply.state is ModelState.READY
    assert reply.reason == "RATE_LIMITED"
    assert reply.credits == Credits(balance_picousd=500_000_000_000)
    assert reply.credits.balance_usd == Decimal("0.5")
    assert reply.model == Model(MODEL, price=FreePrice())
    assert script.history[0].request.model == MODEL


async def test_list_models_is_a_sequence_with_missing_backends(either, script: Script) -> None:
    script.enqueue(models("hf_a", "hf_b", unreachable=("vllm",)))
    reply = await settle(either.list_models())
    assert [model.name for model in reply] == ["hf_a", "hf_b"]
    assert (len(reply), reply[1].name, reply[0] in reply) == (2, "hf_b", True)
    assert [model.name for model in reply[:1]] == ["hf_a"]
    assert reply.unreachable[0].detail == "start vllm"


async def test_list_models_joins_the_pages(either, script: Script) -> None:
    first, last = models("hf_a", unreachable=("vllm",)), models("hf_b", unreachable=("vllm",))
    first.next_page_token = "more"  # noqa: S105 - not a password
    script.enqueue(first, last)
    reply = await settle(either.list_models("hf_"))
    assert [model.name for model in reply] == ["hf_a", "hf_b"]
    assert (len(reply.unreachable), reply.next_page_token) == (1, "")
    asked = [(seen.request.name_prefix, seen.request.page_token) for seen in script.history]
    assert asked == [("hf_", ""), ("hf_", "more")]


async def test_metadata_for_proxies(either, script: Script) -> None:
    await settle(either.generate(MODEL, "hi", session="game-7"))
    await settle(either.generate(MODEL, "hi"))
    await settle(either.generate(MODEL, "hi", fallback_models=["hf_b"]))
    await settle(either.score(MODEL, "hi", ["a"], session="game-7"))
    first, second, third, score = (seen.metadata for seen in script.history)
    assert (first["arena-model"], first["arena-session"]) == (MODEL, "game-7")
    assert first["arena-contract"] == str(REVISION)
    assert second["arena-model"] == MODEL
    # Without a session, a call that is made again must find the replica that knows its reply.
    assert second["arena-session"] == script.history[1].request.request_id
    # A proxy must lead it to a router.
    assert "arena-model" not in third
    assert score["arena-session"] == "game-7"


@pytest.mark.parametrize("session", ["partie-é", "a\nb", " a", "a ", "\0", "x" * 20_000, "将棋"])
async def test_a_session_that_does_not_fit_a_header(either, script: Script, session: str) -> None:
    await settle(either.generate(MODEL, "hi", session=session))
    assert script.history[0].request.session == session
    assert "arena-session" not in script.history[0].metadata


@pytest.mark.parametrize(
    ("of_client", "of_call", "low", "high"),
    [(None, None, 590, 600), (50, None, 40, 50), (50, 20, 10, 20), (None, 900, 890, 900)],
)
async def test_deadlines(target: str, script: Script, of_client, of_call, low, high) -> None:
    options = {} if of_client is None else {"timeout": of_client}
    with arena_llm.Client(target, **options) as client:
        client.generate(MODEL, "hi", timeout=of_call)
    async with arena_llm.AsyncClient(target, **options) as client:
        await client.generate(MODEL, "hi", timeout=of_call)
    for seen in script.history:
        # The header grpc-timeout is rounded up.
        assert low < seen.time_remaining < high + 2


async def test_health(either, script: Script) -> None:
    assert await settle(either.health()) == "SERVING"
    script.health.enter_graceful_shutdown()
    assert await settle(either.health()) == "NOT_SERVING"


async def test_no_deadline(either, script: Script) -> None:
    await settle(either.generate(MODEL, "hi", timeout=math.inf))
    remaining = script.history[0].time_remaining
    assert remaining is None or remaining > 1e6
