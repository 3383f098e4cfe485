"""A chat template that fails on one conversation: the caller's error, in the template's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import services.common.local.template
from arena_llm.types import Message
from services.common.errors import InvalidRequest
from services.common.local.template import ChatTemplate
from tests.support.tiny_models import make_checkpoint

TALK = (Message("system", "SECRET-1"), Message("user", "SECRET-2"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = make_checkpoint(tmp_path_factory.mktemp("model"), "llama")
    return AutoTokenizer.from_pretrained(folder)


#: What each says of TALK.
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
def test_a_conversation_that_fails(tokenizer: Any, source: str, field: str) -> None:
    with pytest.raises(InvalidRequest, match=FAILING[source]) as caught:
        ChatTemplate("hf_tiny", tokenizer, source).render(TALK, field)
    assert caught.value.field == field
    assert "hf_tiny" in caught.value.message
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()
    if "undefined" not in caught.value.message and "UndefinedError" not in caught.value.message:
        assert "SECRET" not in caught.value.message


def test_a_template_that_takes_too_long(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.common.local.template, "_MOST_SECONDS", 0.1)
    many = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="it takes longer than 0"):
            ChatTemplate("hf_tiny", tokenizer, many).render(TALK, "conversation")
    plain = ChatTemplate("hf_tiny", tokenizer, "{{ messages[0].role }}")
    assert plain.render(TALK, "conversation") == "system"


def test_a_tokenizer_that_does_not_render_text() -> None:
    class Odd:
        def apply_chat_template(self, *_: Any, **__: Any) -> list[int]:
            return [1]

    with pytest.raises(InvalidRequest, match="renders list, not text"):
        ChatTemplate("hf_tiny", Odd()).render(TALK, "conversation")
