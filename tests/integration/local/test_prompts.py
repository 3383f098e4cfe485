"""How hf and vllm make a prompt of messages, tools and options, count it and cache it."""

from __future__ import annotations

import pytest

from arena_llm import Client, Message
from arena_llm.errors import UnsupportedError
from arena_llm.types import Conversation, RawPrompt, Tool, ToolChoice, ToolMode
from tests.support.local_models import PROMPT, LocalService


def test_a_prompt_is_counted_as_it_is_read(service: LocalService, llm: Client) -> None:
    count = llm.count_tokens(service.tiny, PROMPT, return_tokens=True)
    reply = llm.generate(service.tiny, PROMPT, max_tokens=1, token_ids=True, raw_text=True)
    assert count.tokens == reply.usage.prompt_tokens
    assert count.trace == reply.prompt_tokens
    assert count.trace is not None
    assert count.trace.raw_text.startswith("<|im_start|>user\nTic-tac-toe.")


def test_a_raw_prompt_is_read_without_the_template(service: LocalService, llm: Client) -> None:
    reply = llm.generate(service.tiny, RawPrompt("0 or 8?"), max_tokens=1, raw_text=True)
    assert reply.prompt_tokens is not None
    assert reply.prompt_tokens.raw_text == "0 or 8?"


LOOK = Tool("look", "Looks.", '{"type": "object", "properties": {"x": {"type": "integer"}}}')


def test_tools_are_shown_to_the_model(service: LocalService, llm: Client) -> None:
    counted = llm.count_tokens(service.tiny, PROMPT, tools=[LOOK], return_tokens=True)
    assert counted.trace is not None
    assert '"name": "look"' in counted.trace.raw_text
    reply = llm.generate(service.tiny, PROMPT, tools=[LOOK], max_tokens=1)
    assert reply.usage.prompt_tokens == counted.tokens
    unseen = ToolChoice(ToolMode.NONE)
    reply = llm.generate(service.tiny, PROMPT, tools=[LOOK], tool_choice=unseen, max_tokens=1)
    assert reply.usage.prompt_tokens == llm.count_tokens(service.tiny, PROMPT).tokens


def test_a_level_of_reasoning_sets_arguments_of_the_template(
    service: LocalService, llm: Client
) -> None:
    low, same = (
        llm.generate(service.tiny, PROMPT, max_tokens=1, raw_text=True, **options).prompt_tokens
        for options in ({"reasoning_effort": "low"}, {"template_arguments": {"brief": True}})
    )
    assert low is not None
    assert low == same
    assert "Be brief." in low.raw_text
    with pytest.raises(UnsupportedError, match="low") as caught:
        llm.generate(service.tiny, PROMPT, reasoning_effort="high")
    assert caught.value.field == "reasoning.effort"


def test_the_last_message_is_continued(service: LocalService, llm: Client) -> None:
    talk = Conversation(
        (Message("user", PROMPT), Message("assistant", "I take ")), continue_last_message=True
    )
    reply = llm.generate(service.tiny, messages=talk, max_tokens=1, raw_text=True)
    assert reply.prompt_tokens is not None
    assert reply.prompt_tokens.raw_text.endswith("<|im_start|>assistant\nI take ")


def test_a_growing_prompt_is_cached(service: LocalService, llm: Client) -> None:
    board = "The board so far: " + " ".join(f"move {n}" for n in range(40))
    choices = ["0", "1"]  # a single choice would need no pass over the prompt
    first = llm.generate(service.tiny, board, choices=choices)
    second = llm.generate(service.tiny, board + " move 41", choices=choices)
    read, cached = first.usage.prompt_tokens, second.usage.cached_tokens
    assert read is not None
    assert cached is not None
    assert second.usage.prompt_tokens is not None
    assert 0.7 * read < cached < second.usage.prompt_tokens
