"""The tokenizer that is read without transformers does what that of transformers does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from transformers import AutoTokenizer

from services.hf.tokenizer import FileTokenizer, read_tokenizer
from tests.support.tiny_models import make_checkpoint

TEXTS = (
    *("Hello, world", "", " a  b\n\n\tc ", "12 é😀 naïve", "\u0000\ud7ff", "x" * 3000),
    *("<|im_start|>user\nHi<|im_end|>", "  <|im_end|>"),
)
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "strips": CHATML.replace("message['content']", "message['content'] | trim"),
    "tools": "{{ tools | tojson }}{{ messages | tojson(indent=2) }}{{ bos_token }}{{ eos_token }}",
    "whitespace": "{%- for m in messages %}\n    {% if m.role == 'user' %}\n  u: {{ m.content }}\n"
    "    {% endif %}\n{{ m.content }}\n{% endfor %}",
    "loop controls": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
    "{{ m.content }}{% endfor %}",
    "generation": "{% set ns = namespace(x=1) %}{% for m in messages %}{% generation %}"
    "{{ m.content }}{{ ns.x }}{% endgeneration %}{% endfor %}",
    "arguments": "{{ thinking }}{{ documents is none }}{{ messages[-1].content }}",
}
CONVERSATION = [
    {"role": "user", "content": "<b>é & 'x'</b>  "},
    {"role": "assistant", "content": "My move: "},
]
TOOLS = [{"type": "function", "function": {"name": "é<&>", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model"), "llama", chat=True)


def both(folder: Path) -> tuple[FileTokenizer, Any]:
    ours = read_tokenizer(folder)
    assert ours is not None
    return ours, AutoTokenizer.from_pretrained(folder)


def test_tokens_and_texts_are_the_same(folder: Path) -> None:
    ours, theirs = both(folder)
    for text in TEXTS:
        for special in (True, False):
            ids = ours(text, add_special_tokens=special).input_ids
            assert ids == theirs(text, add_special_tokens=special).input_ids
            assert ours.decode(ids) == theirs.decode(ids)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    for name in ("all_special_tokens", "all_special_ids", "eos_token_id", "chat_template"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert {i: str(t) for i, t in ours.added_tokens_decoder.items()} == {
        i: str(t) for i, t in theirs.added_tokens_decoder.items()
    }


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_render_the_same(folder: Path, name: str) -> None:
    ours, theirs = both(folder)
    cases: list[dict[str, Any]] = [
        {"add_generation_prompt": True},
        {"tools": TOOLS, "thinking": True},
    ]
    if name in ("chatml", "strips", "whitespace", "generation", "arguments"):
        cases.append({"continue_final_message": True})
    for options in cases:
        shown, expected = (
            tokenizer.apply_chat_template(
                CONVERSATION, chat_template=TEMPLATES[name], tokenize=False, **options
            )
            for tokenizer in (ours, theirs)
        )
        assert shown == expected
    assert CONVERSATION[-1]["content"] == "My move: "


def test_a_template_can_refuse(folder: Path) -> None:
    ours, _ = both(folder)
    with pytest.raises(TemplateError, match="no system"):
        ours.apply_chat_template(CONVERSATION, chat_template="{{ raise_exception('no system') }}")
    with pytest.raises(TemplateError, match="the end of the message"):
        ours.apply_chat_template(CONVERSATION, chat_template="x", continue_final_message=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer_class": "LlamaTokenizer"},
        {"tokenizer_class": None},
        {"add_bos_token": True},
        {"eos_token": "unknown to tokenizer.json"},
        {"eos_token": {"content": "<|im_end|>"}},
        {"chat_template": [{"name": "default", "template": "x"}]},
    ],
    ids=str,
)
def test_what_transformers_might_read_otherwise_is_left_to_it(
    folder: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert read_tokenizer(tmp_path) is not None
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert read_tokenizer(tmp_path) is None
