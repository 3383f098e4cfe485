"""The request that both clients make of a prompt or messages and of options."""

from __future__ import annotations

import re

import pytest

from arena_llm.types import (
    Conversation,
    Grammar,
    GrammarSyntax,
    Message,
    ProviderRouting,
    RawPrompt,
    ReasoningVisibility,
    Tool,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from arena_llm.v1 import content_pb2, generate_pb2, reply_pb2
from tests.unit.client.scripted import MODEL, Script, settle

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
