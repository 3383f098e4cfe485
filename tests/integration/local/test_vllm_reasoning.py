"""A reasoning model on vLLM's real engine. Its reply is known."""

from __future__ import annotations

from typing import Any

import pytest

from arena_llm import Client
from arena_llm.errors import ArenaError
from arena_llm.types import Completion, FinishReason, RawPrompt, StopMatch
from tests.integration.local.conftest import THINKER
from tests.support.chain_models import ABANDON, ANSWER, HALT, REASONING

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
