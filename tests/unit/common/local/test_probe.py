"""A model's test prompt shows whether its tokenizer and its chat template can be used."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tokenizers import Regex, normalizers

from services.common.errors import ModelMisconfigured
from services.common.local.probe import make_test_prompt
from tests.support.tokenizers import make_reader


def test_a_test_prompt(tokenizer: Any) -> None:
    shown = tokenizer.decode(make_test_prompt(make_reader(tokenizer)))
    assert shown == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(make_test_prompt(make_reader(tokenizer, None))) == "Hello"


def test_a_test_prompt_uses_the_vocabulary_of_the_model(tokenizer: Any) -> None:
    letters = tokenizer("Hello").input_ids
    few = make_reader(tokenizer, None, tokens=min(letters))
    assert tokenizer.decode(make_test_prompt(few)).isprintable()


def test_a_tokenizer_that_reads_nothing_is_refused(tokenizer: Any) -> None:
    silent = copy.deepcopy(tokenizer)
    silent.backend_tokenizer.normalizer = normalizers.Replace(Regex("(?m).*"), "")
    with pytest.raises(ModelMisconfigured, match=r"hf_tiny cannot read a test prompt: .* no token"):
        make_test_prompt(make_reader(silent, None))
    with pytest.raises(ModelMisconfigured, match="no embedding"):
        make_test_prompt(make_reader(tokenizer, None, tokens=1))


def test_a_template_may_require_a_system_message(tokenizer: Any) -> None:
    picky = "{% if messages[0].role != 'system' %}{{ raise_exception('no') }}{% endif %}x"
    assert tokenizer.decode(make_test_prompt(make_reader(tokenizer, picky))) == "x"


#: Templates that fail on every conversation -> the error.
BROKEN = {
    "{{ nothing.here }}": "UndefinedError: 'nothing' is undefined",
    "{{ 1 + messages[0].content }}": r"TypeError: unsupported operand type",
    "{{ {}['x'].y }}": "UndefinedError",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "RecursionError",
    "{{ ''.__class__.__mro__ }}": "SecurityError",
    "{{ range(10 ** 9) }}": "OverflowError",
    "{{ raise_exception('never') }}": "refuses this conversation: never",
    "{{ '' }}": "renders nothing",
    "": "renders nothing",
    "<|im_start|>": "no embedding",
    "x" * 400_000: "at least",
}


@pytest.mark.parametrize("template", BROKEN, ids=lambda template: template[:40])
def test_a_template_that_fails_on_every_conversation(tokenizer: Any, template: str) -> None:
    vocabulary = tokenizer.get_vocab()["<|im_start|>"]
    with pytest.raises(ModelMisconfigured, match=BROKEN[template]) as caught:
        make_test_prompt(make_reader(tokenizer, template, vocabulary))
    assert caught.value.message.startswith("hf_tiny cannot read a test conversation")
    assert len(caught.value.message) < 1000
