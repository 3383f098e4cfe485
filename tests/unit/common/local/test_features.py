"""Tools and reasoning: what a model without them refuses, and what templates get to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from arena_llm.types import (
    Capability,
    Choices,
    Conversation,
    GenerationRequest,
    Message,
    RawPrompt,
    Reasoning,
    ReasoningEffort,
    ReasoningOptions,
    ReasoningVisibility,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from services.common.errors import BackendError, InvalidRequest, Unsupported
from services.common.local.features import Features, calls_tools
from services.common.local.request import PromptReader
from services.common.local.template import ChatTemplate
from tests.support.tiny_models import CHATML, make_checkpoint

LOOK = Tool("look", "Looks.", '{"type": "object", "properties": {"b": {}, "a": {}}}')
#: Shows everything that it gets.
OPEN = (
    "{{ tools | tojson }} {{ messages | tojson }} {{ enable_thinking }}"
    "{# reasoning_content tool_calls #}"
)
EFFORTS = {ReasoningEffort.NONE: {"enable_thinking": False}}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = make_checkpoint(tmp_path_factory.mktemp("model"), "llama")
    return AutoTokenizer.from_pretrained(folder)


def reader(tokenizer: Any, template: str | None = OPEN, **options: Any) -> PromptReader:
    return PromptReader("hf_tiny", tokenizer, template, 4096, 400, **options)


def request(prompt: Any = "7", **options: Any) -> GenerationRequest:
    return GenerationRequest("hf_tiny", prompt, **options)


def shown(tokenizer: Any, generation: GenerationRequest, **options: Any) -> str:
    options = {"reasons": True, "parses_tools": True, "efforts": EFFORTS, **options}
    return str(tokenizer.decode(reader(tokenizer, **options).read_generation(generation, 16)[0]))


def test_the_template_gets_the_tools(tokenizer: Any) -> None:
    text = shown(tokenizer, request(tools=(LOOK,)))
    assert '"name": "look"' in text
    assert '"description": "Looks."' in text
    assert text.index('"b"') < text.index('"a"'), "the order of a schema is kept"
    assert "look" not in shown(
        tokenizer, request(tools=(LOOK,), tool_choice=ToolChoice(ToolMode.NONE))
    )


def test_the_template_gets_calls_results_and_reasoning(tokenizer: Any) -> None:
    messages = (
        Message("user", "7"),
        Message(
            "assistant",
            (Reasoning("Hm."), Text("I look."), ToolCall("c1", "look", '{"b": 1, "a": 2.50}')),
        ),
        Message("tool", (ToolResult("c1", "a wall"), ToolResult("c1", "again"))),
    )
    text = shown(tokenizer, request(Conversation(messages)))
    assert '"reasoning_content": "Hm."' in text
    assert '"arguments": {"b": 1, "a": 2.5}' in text
    assert text.count('"role": "tool"') == 2
    assert '"content": "a wall"' in text
    assert '"name": "look"' in text


def test_reasoning_that_the_template_does_not_read_is_refused(tokenizer: Any) -> None:
    messages = (Message("assistant", (Reasoning("Hm."), Text("No."))), Message("user", "7"))
    template = ChatTemplate("hf_tiny", tokenizer, CHATML)
    with pytest.raises(Unsupported, match="reasoning") as caught:
        template.render(Conversation(messages), "conversation")
    assert caught.value.field == "conversation.messages[0].parts[0].reasoning"
    # The template of a model that reasons leaves earlier reasoning out on purpose.
    reasons = ChatTemplate("hf_tiny", tokenizer, CHATML, reasons=True)
    assert "Hm." not in reasons.render(Conversation(messages), "conversation")


def test_calls_and_results_that_the_template_does_not_read_are_refused(tokenizer: Any) -> None:
    call = Message("assistant", ToolCall("c1", "look", "{}"))
    result = Message("tool", ToolResult("c1", "a wall"))
    template = ChatTemplate("hf_tiny", tokenizer, CHATML)
    for messages, field in (
        ((call,), "conversation.messages[0].parts[0].tool_call"),
        ((Message("user", "7"), result), "conversation.messages[1].parts[0].tool_result"),
    ):
        with pytest.raises(Unsupported) as caught:
            template.render(Conversation(messages), "conversation")
        assert caught.value.field == field


def test_an_effort_sets_arguments_of_the_template(tokenizer: Any) -> None:
    effort = ReasoningOptions(ReasoningEffort.NONE)
    assert shown(tokenizer, request(reasoning=effort)).endswith(" False")


REFUSED: list[tuple[dict[str, Any], dict[str, Any], type[BackendError], str]] = [
    ({"parses_tools": False}, {"tools": (LOOK,)}, Unsupported, "tools"),
    ({"template": CHATML}, {"tools": (LOOK,)}, Unsupported, "tools"),
    ({}, {"tools": (LOOK,), "prompt": RawPrompt("7")}, Unsupported, "tools"),
    (
        {},
        {"tools": (LOOK,), "tool_choice": ToolChoice(ToolMode.REQUIRED)},
        Unsupported,
        "tool_choice.mode",
    ),
    ({}, {"tools": (LOOK,), "constraint": Choices(("a",))}, InvalidRequest, "tools"),
    (
        {"reasons": False},
        {"reasoning": ReasoningOptions(visibility=ReasoningVisibility.HIDDEN)},
        Unsupported,
        "reasoning.visibility",
    ),
    (
        {},
        {"reasoning": ReasoningOptions(budget_tokens=5)},
        Unsupported,
        "reasoning.budget_tokens",
    ),
    (
        {},
        {"reasoning": ReasoningOptions(ReasoningEffort.HIGH)},
        Unsupported,
        "reasoning.effort",
    ),
    (
        {},
        {
            "reasoning": ReasoningOptions(ReasoningEffort.NONE),
            "template_arguments_json": '{"enable_thinking": true}',
        },
        InvalidRequest,
        "template_arguments_json",
    ),
]


@pytest.mark.parametrize(("options", "asked", "error", "field"), REFUSED, ids=str)
def test_what_the_model_lacks_is_refused(
    tokenizer: Any,
    options: dict[str, Any],
    asked: dict[str, Any],
    error: type[BackendError],
    field: str,
) -> None:
    with pytest.raises(error) as caught:
        shown(tokenizer, request(**asked), **options)
    assert caught.value.field == field


def test_the_fields_and_capabilities_of_a_model() -> None:
    base = Features()
    full = Features(chat=True, tools=True, reasoning=True, efforts=EFFORTS)
    missing = {*full.fields} - {*base.fields}
    assert {"conversation", "tools", "reasoning.effort", "template_arguments_json"} <= missing
    assert {"config.min_p", "raw.text", "prompt"} <= {*base.fields}
    assert {*full.capabilities} - {*base.capabilities} == {
        Capability.CHAT,
        Capability.TOOLS,
        Capability.REASONING,
    }


def test_whether_tools_may_be_called() -> None:
    assert not calls_tools(request())
    assert calls_tools(request(tools=(LOOK,)))
    assert calls_tools(request(tools=(LOOK,), tool_choice=ToolChoice(ToolMode.AUTO)))
    assert not calls_tools(request(tools=(LOOK,), tool_choice=ToolChoice(ToolMode.NONE)))
