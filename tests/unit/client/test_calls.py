"""What both clients send, and what they return for a reply."""

from __future__ import annotations

import math
import re
from decimal import Decimal

import pytest

import arena_llm
from arena_llm.types import (
    Conversation,
    Credits,
    FinishReason,
    FreePrice,
    Grammar,
    GrammarSyntax,
    Message,
    Model,
    ModelState,
    ProviderRouting,
    RawPrompt,
    ReasoningVisibility,
    ReplicaState,
    Tool,
    ToolChoice,
    ToolMode,
    ToolResult,
    Usage,
)
from arena_llm.v1 import (
    REVISION,
    content_pb2,
    error_pb2,
    generate_pb2,
    models_pb2,
    reply_pb2,
    score_pb2,
    service_info_pb2,
)
from tests.unit.client.scripted import MODEL, Script, models, scores, settle, text_reply

#: A reply with a state of the provider and a tool call.
TOOL_REPLY = reply_pb2.GenerateResponse(
    message=content_pb2.Message(
        role=content_pb2.ROLE_ASSISTANT,
        parts=[
            content_pb2.Part(
                reasoning=content_pb2.Reasoning(text="hm"),
                state=content_pb2.ProviderState(data=b"\x00sig", origin="a"),
            ),
            content_pb2.Part(
                tool_call=content_pb2.ToolCall(id="c1", name="move", arguments='{"to":4}')
            ),
        ],
    ),
    finish_reason=reply_pb2.FINISH_REASON_TOOL_CALLS,
)


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
            min_p=0.05,
            repetition_penalty=1.1,
            min_tokens=2,
            stop_token_ids=[13],
            ignore_eos=True,
            logit_bias={15: -100},
            reasoning_effort="low",
            reasoning_visibility=ReasoningVisibility.HIDDEN,
            token_ids=True,
            top_logprobs=0,
            logprob_kind="sampled",
            logprob_token_ids=[1, 2],
            raw_text=True,
            choices=["0", "4"],
            tools=[Tool("move", parameters_json_schema="{}", strict=True)],
            tool_choice=ToolChoice(ToolMode.REQUIRED, ("move",), allow_parallel=False),
            routing=ProviderRouting(("a", "b"), allow_fallbacks=False, precisions=("bf16",)),
            session="game 7",
            labels={"experiment": "e1"},
            request_id="r-1",
            template_arguments={"enable_thinking": False},
            provider_options={"b": {"deep": None, "n": 3.0}, "a": 2**60},
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
            min_p=0.05,
            repetition_penalty=1.1,
            min_tokens=2,
            stop_token_ids=[13],
            ignore_eos=True,
            logit_bias={15: -100},
        ),
        constraint=generate_pb2.Constraint(choices=generate_pb2.Choices(values=["0", "4"])),
        reasoning=generate_pb2.ReasoningConfig(
            effort=generate_pb2.REASONING_EFFORT_LOW,
            visibility=generate_pb2.REASONING_VISIBILITY_HIDDEN,
        ),
        tools=[content_pb2.Tool(name="move", parameters_json_schema="{}", strict=True)],
        tool_choice=content_pb2.ToolChoice(
            mode=content_pb2.TOOL_MODE_REQUIRED, names=["move"], allow_parallel=False
        ),
        returns=generate_pb2.ReturnOptions(
            token_ids=True,
            top_logprobs=0,
            logprob_kind=reply_pb2.LOGPROB_KIND_SAMPLED,
            logprob_token_ids=[1, 2],
            raw_text=True,
        ),
        routing=generate_pb2.ProviderRouting(
            providers=["a", "b"], allow_fallbacks=False, precisions=["bf16"]
        ),
        session="game 7",
        labels={"experiment": "e1"},
        request_id="r-1",
        template_arguments_json='{"enable_thinking": false}',
        provider_options_json='{"b": {"deep": null, "n": 3.0}, "a": 1152921504606846976}',
    )
    assert request == expected


async def test_absent_options_are_not_set(either, script: Script) -> None:
    await settle(either.generate(MODEL, "hi", temperature=None, choices=None, labels=None))
    await settle(either.generate(MODEL, "hi"))
    ids = {seen.request.request_id for seen in script.history}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", request_id) for request_id in ids)
    for seen in script.history:
        seen.request.ClearField("request_id")
        assert seen.request == generate_pb2.GenerateRequest(model=MODEL, prompt="hi")


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
        (
            {"json_schema": {"type": "object"}},
            "json_schema",
            generate_pb2.JsonSchema(schema='{"type": "object"}'),
        ),
        (
            {"json_schema": '{"type": "null"}'},
            "json_schema",
            generate_pb2.JsonSchema(schema='{"type": "null"}'),
        ),
        ({"regex": "[0-8]"}, "regex", generate_pb2.Regex(pattern="[0-8]")),
        (
            {"grammar": Grammar(GrammarSyntax.GBNF, "root ::= [0-8]")},
            "grammar",
            generate_pb2.Grammar(syntax=generate_pb2.GRAMMAR_SYNTAX_GBNF, text="root ::= [0-8]"),
        ),
        ({"json_object": True}, "json_object", generate_pb2.AnyJsonObject()),
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
    mappings = [{"role": message.role, "content": message.text} for message in messages]
    await settle(either.generate(MODEL, messages=mappings))
    for seen in script.history:
        sent = seen.request.conversation.messages
        assert [(m.role, m.parts[0].text) for m in sent] == [(1, "s"), (2, "u"), (3, "a")]


async def test_a_reply_is_appended_as_it_is(either, script: Script) -> None:
    script.enqueue(TOOL_REPLY)
    asked = [Message("user", "Your move?")]
    reply = await settle(either.generate(MODEL, messages=asked))
    (call,) = reply.tool_calls
    assert (call.id, call.name, call.arguments) == ("c1", "move", '{"to":4}')
    result = Message("tool", ToolResult(call.id, "done"))
    history = [*asked, reply.message, result]
    await settle(either.generate(MODEL, messages=Conversation(tuple(history))))
    sent = script.history[1].request.conversation.messages
    assert sent[1] == TOOL_REPLY.message
    assert sent[2].parts[0].tool_result.call_id == "c1"


async def test_raw_prompts(either, script: Script) -> None:
    await settle(either.generate(MODEL, RawPrompt("1. e4", add_special_tokens=False)))
    await settle(either.generate(MODEL, RawPrompt(token_ids=(1, 2))))
    text, ids = (seen.request.raw for seen in script.history)
    assert text == content_pb2.RawPrompt(text="1. e4", add_special_tokens=False)
    assert ids == content_pb2.RawPrompt(token_ids=content_pb2.TokenIds(ids=[1, 2]))


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
    first, second = (seen.metadata for seen in script.history)
    assert (first["arena-model"], first["arena-session"]) == (MODEL, "game-7")
    assert first["arena-contract"] == str(REVISION)
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
