"""What both clients send, and what they return for a reply."""

from __future__ import annotations

import math

import pytest

import arena_llm
from arena_llm import FinishReason, Message, ModelState
from arena_llm.v1 import generate_pb2, models_pb2
from tests.unit.client.scripted import MODEL, Script, models, scores, settle, text_reply


async def test_every_option_reaches_the_wire(either, script: Script) -> None:
    await settle(
        either.generate(
            MODEL,
            "hi",
            max_tokens=5,
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            seed=2**40,
            stop=["\n", "."],
            presence_penalty=-1.0,
            frequency_penalty=1.0,
            logprobs=3,
            choices=["0", "4"],
            session="game 7",
            labels={"experiment": "e1"},
            provider_options={"provider": {"order": ["a", "b"], "deep": None, "n": 1.5}},
        )
    )
    request = script.history[0].request
    expected = generate_pb2.GenerateRequest(
        model=MODEL,
        prompt="hi",
        config=generate_pb2.GenerationConfig(
            max_tokens=5,
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            seed=2**40,
            stop=["\n", "."],
            presence_penalty=-1.0,
            frequency_penalty=1.0,
            logprobs=3,
        ),
        constraint=generate_pb2.Constraint(choices=generate_pb2.Choices(values=["0", "4"])),
        session="game 7",
        labels={"experiment": "e1"},
    )
    expected.provider_options.update({"provider": {"order": ["a", "b"], "deep": None, "n": 1.5}})
    assert request == expected


async def test_absent_options_are_not_set(either, script: Script) -> None:
    await settle(either.generate(MODEL, "hi", temperature=None, choices=None, labels=None))
    request = script.history[0].request
    assert request == generate_pb2.GenerateRequest(model=MODEL, prompt="hi")


async def test_falsy_options_are_set(either, script: Script) -> None:
    await settle(either.generate(MODEL, "", temperature=0, seed=0, choices=[], labels={}))
    request = script.history[0].request
    assert request.WhichOneof("input") == "prompt"
    assert request.config.HasField("temperature")
    assert request.config.HasField("seed")
    assert request.constraint.WhichOneof("kind") == "choices"


@pytest.mark.parametrize(
    ("option", "kind", "wire"),
    [
        ({"json_schema": {"type": "object"}}, "json_schema", '{"type": "object"}'),
        ({"json_schema": '{"type": "null"}'}, "json_schema", '{"type": "null"}'),
        ({"regex": "[0-8]"}, "regex", "[0-8]"),
    ],
)
async def test_constraints(either, script: Script, option, kind, wire) -> None:
    await settle(either.generate(MODEL, "hi", **option))
    constraint = script.history[0].request.constraint
    assert constraint.WhichOneof("kind") == kind
    assert getattr(constraint, kind) == wire


async def test_a_single_stop_string(either, script: Script) -> None:
    await settle(either.generate(MODEL, "hi", stop="END"))
    assert list(script.history[0].request.config.stop) == ["END"]


async def test_messages(either, script: Script) -> None:
    messages = [Message("system", "s"), Message("user", "u"), Message("assistant", "a")]
    await settle(either.generate(MODEL, messages=messages))
    mappings = [{"role": message.role, "content": message.content} for message in messages]
    await settle(either.generate(MODEL, messages=mappings))
    for seen in script.history:
        sent = seen.request.conversation.messages
        assert [(m.role, m.content) for m in sent] == [(1, "s"), (2, "u"), (3, "a")]


async def test_the_completion(either, script: Script) -> None:
    script.enqueue(
        text_reply(
            "x4",
            reasoning="because",
            usage=generate_pb2.Usage(prompt_tokens=3, completion_tokens=2, cost_usd=0.25),
            backend="hf",
            id="id-1",
            timings=generate_pb2.Timings(total_seconds=1.5),
            logprobs=[
                generate_pb2.TokenLogprob(logprob=-1, top=[generate_pb2.TopLogprob(logprob=-2)])
            ],
        )
    )
    reply = await settle(either.generate(MODEL, "hi"))
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("x4", "because", "stop")
    assert reply.finish_reason is FinishReason.STOP
    assert reply.usage == arena_llm.Usage(prompt_tokens=3, completion_tokens=2, cost_usd=0.25)
    assert (reply.model, reply.backend, reply.id) == (MODEL, "hf", "id-1")
    assert reply.timings.total_seconds == 1.5
    assert (reply.logprobs[0].logprob, reply.logprobs[0].top[0].logprob) == (-1, -2)


async def test_score(either, script: Script) -> None:
    script.enqueue(scores(("4", -0.5), ("8", -1.5)))
    result = await settle(either.score(MODEL, "p", ["4", "8"], session="g", labels={"a": "b"}))
    assert result == [arena_llm.Score("4", -0.5, 1), arena_llm.Score("8", -1.5, 1)]
    request = script.history[0].request
    assert (request.prompt, list(request.continuations)) == ("p", ["4", "8"])
    assert (request.session, dict(request.labels)) == ("g", {"a": "b"})


async def test_score_after_messages(either, script: Script) -> None:
    script.enqueue(scores(("4", -0.5)))
    await settle(either.score(MODEL, None, ["4"], messages=[Message("user", "u")]))
    assert script.history[0].request.conversation.messages[0].content == "u"


async def test_is_available(either, script: Script) -> None:
    script.enqueue(
        models_pb2.IsAvailableResponse(
            available=True,
            state=models_pb2.MODEL_STATE_READY,
            warnings=["low"],
            credits=models_pb2.Credits(balance_usd=0.5),
            unreachable=[models_pb2.UnreachableBackend(backend="vllm")],
            price=models_pb2.Price(prompt_usd=0.5, completion_usd=2),
        )
    )
    reply = await settle(either.is_available(MODEL))
    assert reply.available
    assert reply.state is ModelState.READY
    assert reply.credits == arena_llm.Credits(balance_usd=0.5)
    assert reply.unreachable[0].backend == "vllm"
    assert reply.price == arena_llm.Price(0.5, 2)
    assert script.history[0].request.model == MODEL


async def test_list_models_is_a_sequence_with_missing_backends(either, script: Script) -> None:
    script.enqueue(models("hf_a", "hf_b", unreachable=("vllm",)))
    reply = await settle(either.list_models())
    assert [model.name for model in reply] == ["hf_a", "hf_b"]
    assert (len(reply), reply[1].name, reply[0] in reply) == (2, "hf_b", True)
    assert [model.name for model in reply[:1]] == ["hf_a"]
    assert reply.unreachable[0].detail == "start vllm"


async def test_metadata_for_proxies(either, script: Script) -> None:
    await settle(either.generate(MODEL, "hi", session="game-7"))
    await settle(either.generate(MODEL, "hi"))
    first, second = (seen.metadata for seen in script.history)
    assert (first["arena-model"], first["arena-session"]) == (MODEL, "game-7")
    assert second["arena-model"] == MODEL
    assert "arena-session" not in second


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
