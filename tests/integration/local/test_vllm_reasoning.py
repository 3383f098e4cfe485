"""A reasoning model on vLLM's real engine. Its reply is known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arena_llm import Client
from arena_llm.errors import ArenaError
from arena_llm.types import (
    Completion,
    Conversation,
    FinishReason,
    Message,
    RawPrompt,
    StopMatch,
    Tool,
    ToolChoice,
    ToolMode,
)
from tests.integration.local.conftest import THINKER
from tests.support.chain_models import ABANDON, ANSWER, CALL, END_LETTER, HALT, REASONING

PROMPT = "Your move?"


def ask(known_llm: Client, **options: Any) -> Completion:
    """The thinker's reply, unary and as a stream, which must agree."""
    whole = known_llm.generate(THINKER, PROMPT, temperature=0, **options)
    stream = known_llm.stream(THINKER, PROMPT, temperature=0, **options)
    assert "".join(stream) == stream.completion.text == whole.text
    assert stream.completion.message == whole.message
    assert stream.completion.stop_match == whole.stop_match
    return whole


def test_reasoning_and_answer(known_llm: Client) -> None:
    reply = ask(known_llm)
    assert (reply.reasoning, reply.text) == (REASONING, ANSWER)
    # The tokens <think> and </think> count, the end token and HALT do not.
    assert (reply.usage.reasoning_tokens, reply.usage.completion_tokens) == (5, 11)


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("never", ANSWER),
        ("q", ANSWER),
        ("</think>", ANSWER),
        ("think", ANSWER),
        ("z", "x"),
        ("zj", "x"),
        ("jv", "xz"),
        ("xzjv!", ANSWER),
        (ANSWER, ""),
        (HALT, "xzj"),
        ("<|im_end|>", ANSWER),
    ],
)
def test_a_stop_string_ends_the_answer_not_the_reasoning(
    known_llm: Client, stop: str, text: str
) -> None:
    reply = ask(known_llm, stop=[stop, "other"])
    assert (reply.reasoning, reply.text) == (REASONING, text)
    ended = text != ANSWER or stop == "<|im_end|>"
    assert reply.stop_match == (StopMatch(text=stop) if ended else None)
    assert reply.finish_reason is FinishReason.STOP


def test_a_stop_token_ends_the_answer_not_the_reasoning(known_llm: Client) -> None:
    ids = known_llm.generate(THINKER, PROMPT, temperature=0, token_ids=True).completion_tokens
    assert ids is not None
    w, z = ids.ids[1], ids.ids[6]
    reply = ask(known_llm, stop_token_ids=[w, z])
    assert (reply.reasoning, reply.text) == (REASONING, "x")
    assert reply.stop_match == StopMatch(token_id=z)


@pytest.mark.parametrize("stop", [(), ("never",), ("k",)])
def test_stop_strings_do_not_fail_choices(known_llm: Client, stop: tuple[str, ...]) -> None:
    reply = ask(known_llm, choices=["xz", "other"], stop=stop)
    assert (reply.reasoning, reply.text) == (REASONING, "xz")


def test_a_stop_string_that_would_cut_a_choice_is_refused(known_llm: Client) -> None:
    with pytest.raises(ArenaError, match="would cut the choice") as caught:
        known_llm.generate(THINKER, PROMPT, choices=["xz"], stop=["z"])
    assert caught.value.field == "config.stop"


@pytest.mark.parametrize("options", [{}, {"choices": ["xz", "other"]}], ids=["free", "choices"])
def test_log_probabilities_cover_the_answer(known_llm: Client, options: dict[str, Any]) -> None:
    before = generated(known_llm)
    reply = known_llm.generate(THINKER, PROMPT, temperature=0, top_logprobs=2, **options)
    trace = reply.completion_tokens
    assert trace is not None
    assert trace.unscored == reply.usage.reasoning_tokens == 5
    assert len(trace) == reply.usage.completion_tokens
    assert len(trace.logprobs) == len(trace) - 5
    assert len(trace.top_logprobs) == 2 * len(trace.logprobs)
    assert trace.logprobs[:2] == pytest.approx((0, 0), abs=1e-3)
    # Under a constraint each of them takes a step more, but not those of the reasoning.
    extra = len(trace.logprobs) if options else 0
    assert generated(known_llm) - before == len(trace) + extra


def generated(known_llm: Client) -> int:
    """All tokens that the thinker's engine has generated."""
    load = known_llm.is_available(THINKER).load
    assert load is not None
    return load.generated_tokens


CONSTRAINTS: dict[str, dict[str, Any]] = {
    "constraint.choices": {"choices": ["xz", "jk"]},
    "constraint.regex": {"regex": "x+z"},
    "constraint.json_schema": {"json_schema": {"type": "integer"}},
    "constraint.json_object": {"json_object": True},
}


@pytest.mark.parametrize("field", CONSTRAINTS)
def test_a_reply_that_is_all_reasoning_says_so(known_llm: Client, field: str) -> None:
    """The constraint is not to blame."""
    with pytest.raises(ArenaError, match="ended the reasoning after 3 tokens") as caught:
        known_llm.generate(THINKER, PROMPT, max_tokens=3, **CONSTRAINTS[field])
    assert (caught.value.reason, caught.value.field) == ("INVALID_REQUEST", "config.max_tokens")
    with pytest.raises(ArenaError, match="ended inside its reasoning") as caught:
        known_llm.generate(THINKER, RawPrompt(text=ABANDON), **CONSTRAINTS[field])
    assert (caught.value.reason, caught.value.field) == ("CONSTRAINT_NOT_MET", field)
    assert caught.value.report is not None
    assert caught.value.report.usage.completion_tokens == 2


def test_a_budget_ends_the_reasoning(known_llm: Client) -> None:
    reply = ask(known_llm, reasoning_budget_tokens=1)
    assert (reply.reasoning, reply.text) == (REASONING[0], ANSWER)
    reply = ask(known_llm, reasoning_budget_tokens=1, choices=["xz", "other"])
    assert (reply.reasoning, reply.text) == (REASONING[0], "xz")
    assert ask(known_llm, reasoning_budget_tokens=100).reasoning == REASONING


@pytest.mark.parametrize(
    "options",
    [
        {"choices": [END_LETTER * 2, f"{END_LETTER}!"]},
        {"choices": [END_LETTER * 3]},
        {"regex": f"{END_LETTER}{{3}}k"},
    ],
    ids=str,
)
def test_an_end_token_that_is_text_does_not_cut_a_constrained_text(
    known_llm: Client, options: dict[str, Any]
) -> None:
    reply = ask(known_llm, **options)
    assert reply.text in options.get("choices", [f"{END_LETTER * 3}k"])


def test_the_default_of_max_tokens_leaves_room_for_the_answer(known_llm: Client) -> None:
    [model] = [model for model in known_llm.list_models() if model.name == THINKER]
    assert model.defaults is not None
    assert model.defaults.max_tokens == 32_768
    prompt = RawPrompt(text="C" * 100)
    reply = known_llm.generate(THINKER, prompt, ignore_eos=True, logit_bias={88: 100.0})
    assert reply.finish_reason is FinishReason.CONTEXT
    assert reply.usage.completion_tokens == 412


SCHEMA = {
    "type": "object",
    "properties": {"x": {"enum": [1, 2]}},
    "required": ["x"],
    "additionalProperties": False,
}
LOOK, STRICT = (Tool("look", "", json.dumps(SCHEMA), strict=strict) for strict in (False, True))
#: A conversation that the thinker continues with a call.
CALLING = Conversation(
    (Message("user", PROMPT), Message("assistant", CALL)), continue_last_message=True
)


def call(llm: Client, *tools: Tool, **options: Any) -> Completion:
    """The thinker's reply to CALLING. It writes what it may, not what fits."""
    return llm.generate(
        THINKER, messages=CALLING, tools=tools, temperature=0, max_tokens=60, **options
    )


def test_a_strict_tool_gets_arguments_that_fit(known_llm: Client) -> None:
    assert not call(known_llm, LOOK).tool_calls
    reply = call(known_llm, STRICT)
    assert [(one.name, json.loads(one.arguments)) for one in reply.tool_calls] == [
        ("look", {"x": 1})
    ]
    assert reply.finish_reason is FinishReason.TOOL_CALLS


def test_only_the_named_tools_are_called(known_llm: Client) -> None:
    named = ToolChoice(ToolMode.AUTO, ("wait",))
    reply = call(known_llm, STRICT, Tool("wait", "", "", strict=True), tool_choice=named)
    assert {one.name for one in reply.tool_calls} == {"wait"}
