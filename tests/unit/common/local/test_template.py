"""Chat templates: what they get, and whose fault it is when they fail."""

from __future__ import annotations

from typing import Any

import pytest

import services.common.local.template
from arena_llm.types import Conversation, Input, Message, RawPrompt, Tool
from services.common.errors import BackendError, InvalidRequest, ModelMisconfigured, Unsupported
from services.common.local.template import ChatTemplate
from tests.support.tiny_models import CHATML
from tests.support.tokenizers import make_reader


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% if %}", "Expected an expression"),
        ("{{ messages[0].content | no_filter }}", "No filter named 'no_filter'"),
        ("{% if tools %}{{ tools | no_filter }}{% endif %}{{ messages[0].content }}", "no_filter"),
    ],
)
def test_a_template_that_cannot_be_compiled_is_not_the_callers_fault(
    tokenizer: Any, template: str, why: str
) -> None:
    """Also if only a part of it is wrong, which the test conversation does not use."""
    tools = [Tool("look")] if "tools" in template else []
    with pytest.raises(ModelMisconfigured, match=why) as caught:
        make_reader(tokenizer, template).read("a", tools=tools)
    assert caught.value.message.startswith("the chat template of hf_tiny cannot be compiled")


SECRET_TALK = Conversation((Message("system", "SECRET-1"), Message("user", "SECRET-2")))

#: Template -> the error for SECRET_TALK, in which a template's own error must not repeat it.
FAILING = {
    "{{ raise_exception('roles must alternate') }}": "refuses this conversation: roles must alt",
    "{{ raise_exception('a' * 5000) }}": "refuses this conversation: aaa",
    "{{ raise_exception('\x1b[31m red') }}": r"refuses this conversation: \\x1b\[31m red",
    "{{ messages[2].content }}": "UndefinedError: list object has no element 2",
    "{{ messages[2] + 1 }}": "UndefinedError",
    "{{ {}[messages[0].content] + 1 }}": "UndefinedError",
    "{{ 1 + messages[0].content }}": "TypeError$",
    "{{ messages[0].content.index('?') }}": "ValueError$",
    "{{ '{x}'.format(messages[0].content) }}": "KeyError$",
    "{{ '\\ud83d' }}{{ messages[0].content }}": "UnicodeEncodeError$",
    "{{ 1 // 0 }}": "ZeroDivisionError$",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "RecursionError$",
    "{% for m in messages if m.role == 'tool' %}x{% endfor %}": "renders nothing",
}


@pytest.mark.parametrize("source", FAILING)
@pytest.mark.parametrize("field", ["conversation", "prompt"])
def test_a_conversation_on_which_the_template_fails(
    tokenizer: Any, source: str, field: str
) -> None:
    with pytest.raises(InvalidRequest, match=FAILING[source]) as caught:
        ChatTemplate("hf_tiny", tokenizer, source).render(SECRET_TALK, field)
    assert caught.value.field == field
    assert "hf_tiny" in caught.value.message
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()
    if "undefined" not in caught.value.message.lower():
        assert "SECRET" not in caught.value.message


def test_a_template_that_takes_too_long(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.common.local.template, "_RENDER_SECONDS", 0.1)
    many = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="it takes longer than 0"):
            ChatTemplate("hf_tiny", tokenizer, many).render(SECRET_TALK, "conversation")
    plain = ChatTemplate("hf_tiny", tokenizer, "{{ messages[0].role }}")
    assert plain.render(SECRET_TALK, "conversation") == "system"


def test_a_tokenizer_that_does_not_render_text() -> None:
    class Odd:
        def apply_chat_template(self, *_: Any, **__: Any) -> list[int]:
            return [1]

    with pytest.raises(InvalidRequest, match="renders list, not text"):
        ChatTemplate("hf_tiny", Odd()).render(SECRET_TALK, "conversation")


def test_the_last_message_is_continued(tokenizer: Any) -> None:
    messages = (Message("user", "0 or 8?"), Message("assistant", "I take "))
    tokens = make_reader(tokenizer).read(Conversation(messages, continue_last_message=True))
    assert tokenizer.decode(tokens) == (
        "<|im_start|>user\n0 or 8?<|im_end|>\n<|im_start|>assistant\nI take "
    )


THINKING = "{{ messages[0].content }}{% if enable_thinking %} think{% endif %}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({}, "7"), ({"enable_thinking": True}, "7 think"), ({"enable_thinking": False}, "7")],
)
def test_arguments_of_the_template(tokenizer: Any, arguments: dict[str, Any], text: str) -> None:
    assert tokenizer.decode(make_reader(tokenizer, THINKING).read("7", arguments)) == text


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        ({"messages": []}, InvalidRequest, "must not set messages"),
        ({"tokenize": True}, InvalidRequest, "must not set tokenize"),
        ({"enable_dreaming": True}, Unsupported, "does not read enable_dreaming"),
    ],
)
def test_arguments_that_the_template_cannot_get(
    tokenizer: Any, arguments: dict[str, Any], error: type[BackendError], why: str
) -> None:
    with pytest.raises(error, match=why) as caught:
        make_reader(tokenizer, THINKING).read("7", arguments)
    assert caught.value.field == "template_arguments_json"


@pytest.mark.parametrize("prompt_input", ["7", RawPrompt("7"), RawPrompt(token_ids=(5,))], ids=str)
def test_arguments_without_a_template_are_refused(tokenizer: Any, prompt_input: Input) -> None:
    template = None if prompt_input == "7" else CHATML
    with pytest.raises(Unsupported, match="needs a chat template") as caught:
        make_reader(tokenizer, template).read(prompt_input, {"x": 1})
    assert caught.value.field == "template_arguments_json"
