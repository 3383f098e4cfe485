"""From a request to tokens: template or raw text, and what does not fit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, normalizers
from transformers import AutoTokenizer

from arena_llm.types import Choices, Input, Message
from services.common.errors import (
    BackendError,
    ContextTooLong,
    InvalidRequest,
    ModelMisconfigured,
)
from services.common.local.prompt import PromptReader
from tests.support.tiny_models import CHATML, make_checkpoint

CONTEXT = 512
TALK = (Message("system", "Play."), Message("user", "0 or 8?"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = make_checkpoint(tmp_path_factory.mktemp("model"), "llama")
    return AutoTokenizer.from_pretrained(folder)


def reader(tokenizer: Any, template: str | None = CHATML, tokens: int = 400) -> PromptReader:
    return PromptReader("hf_tiny", tokenizer, template, CONTEXT, tokens)


def test_a_chat_model_sees_its_template(tokenizer: Any) -> None:
    def shown(given: Input) -> str:
        return str(tokenizer.decode(reader(tokenizer).read(given)))

    assert shown("0 or 8?") == "<|im_start|>user\n0 or 8?<|im_end|>\n<|im_start|>assistant\n"
    assert shown(TALK).startswith("<|im_start|>system\nPlay.<|im_end|>\n<|im_start|>user\n0 or 8?")


def test_a_base_model_sees_the_text_itself(tokenizer: Any) -> None:
    assert tokenizer.decode(reader(tokenizer, None).read("0 or 8?")) == "0 or 8?"


#: What is read, by which template, what it raises and the field it names.
REFUSED: list[tuple[Input, str | None, type[BackendError], str, str]] = [
    (TALK, None, InvalidRequest, "conversation", "base model"),
    (TALK, "{{ raise_exception('system first') }}", InvalidRequest, "conversation", "system first"),
    ("x", "{{ '' }}", InvalidRequest, "prompt", "renders nothing"),
    ("x" * 5_000_000, CHATML, ContextTooLong, "prompt", "at least"),
    ("日" * 1_700_000, None, ContextTooLong, "prompt", "at least"),
    ((Message("user", "x" * 5_000_000),), CHATML, ContextTooLong, "conversation", "at least"),
]


@pytest.mark.timeout(20)  # 5 MB are not tokenized
@pytest.mark.parametrize(
    ("given", "template", "error", "field", "why"), REFUSED, ids=lambda value: repr(value)[:30]
)
def test_what_cannot_be_read_is_refused(
    tokenizer: Any,
    given: Input,
    template: str | None,
    error: type[BackendError],
    field: str,
    why: str,
) -> None:
    with pytest.raises(error, match=why) as caught:
        reader(tokenizer, template).read(given)
    assert caught.value.field == field


def test_a_token_without_an_embedding_never_reaches_the_engine(tokenizer: Any) -> None:
    """Such as a chat template of another model may write."""
    small = reader(tokenizer, tokens=tokenizer.get_vocab()["<|im_start|>"])
    with pytest.raises(InvalidRequest, match="no embedding") as caught:
        small.read("0 or 8?")
    assert caught.value.field == "prompt"
    with pytest.raises(InvalidRequest, match="no embedding") as caught:
        small.read_continuation("<|im_start|>", "continuations[3]")
    assert caught.value.field == "continuations[3]"


@pytest.mark.parametrize(
    ("prompt", "completion", "field"),
    [
        (CONTEXT, 1, "prompt"),
        (CONTEXT - 4, 5, "config.max_tokens"),
        (1, 2**31 - 1, "config.max_tokens"),
    ],
)
def test_what_passes_the_context_is_refused(
    tokenizer: Any, prompt: int, completion: int, field: str
) -> None:
    with pytest.raises(ContextTooLong) as caught:
        reader(tokenizer).check_room("x", prompt, completion, "config.max_tokens")
    assert caught.value.field == field
    assert caught.value.metadata["context_length"] == str(CONTEXT)


def test_an_encoder_decoder_model_has_a_context_for_each(tokenizer: Any) -> None:
    both = PromptReader("hf_tiny", tokenizer, None, CONTEXT, 400, encoder_decoder=True)
    both.check_room("x", CONTEXT, CONTEXT, "config.max_tokens")
    with pytest.raises(ContextTooLong):
        both.check_room("x", 1, CONTEXT + 1, "config.max_tokens")


def test_a_token_that_is_read_and_not_written_is_no_continuation(tokenizer: Any) -> None:
    token = tokenizer.get_vocab()["<|im_start|>"]
    narrow = PromptReader("hf_tiny", tokenizer, None, CONTEXT, 400, token)
    assert narrow.read("<|im_start|>") == [token]
    with pytest.raises(InvalidRequest, match="no embedding"):
        narrow.read_continuation("<|im_start|>", "continuations[0]")


def test_what_fits_exactly_is_taken(tokenizer: Any) -> None:
    reader(tokenizer).check_room("x", CONTEXT - 4, 4, "config.max_tokens")


@pytest.mark.parametrize(
    ("stop", "most", "field"), [(("2",), None, "config.stop"), ((), 2, "config.max_tokens")]
)
def test_parameters_that_would_cut_a_choice_are_refused(
    tokenizer: Any, stop: tuple[str, ...], most: int | None, field: str
) -> None:
    with pytest.raises(InvalidRequest, match="123") as caught:
        reader(tokenizer).check_choices(Choices(("1", "123")), stop, most)
    assert caught.value.field == field


def test_a_test_prompt(tokenizer: Any) -> None:
    shown = tokenizer.decode(reader(tokenizer).test_prompt())
    assert shown == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(reader(tokenizer, None).test_prompt()) == "Hello"


def test_a_test_prompt_is_of_the_models_own_vocabulary(tokenizer: Any) -> None:
    letters = tokenizer("Hello").input_ids
    few = reader(tokenizer, None, tokens=min(letters))
    assert tokenizer.decode(few.test_prompt()).isprintable()


def test_a_tokenizer_that_reads_nothing_is_not_the_models(tokenizer: Any) -> None:
    silent = copy.deepcopy(tokenizer)
    silent.backend_tokenizer.normalizer = normalizers.Replace(Regex("(?m).*"), "")
    with pytest.raises(ModelMisconfigured, match=r"hf_tiny cannot read a test prompt: .* no token"):
        reader(silent, None).test_prompt()
    with pytest.raises(ModelMisconfigured, match="no embedding"):
        reader(tokenizer, None, tokens=1).test_prompt()


def test_a_template_that_wants_a_system_message_will_do(tokenizer: Any) -> None:
    picky = "{% if messages[0].role != 'system' %}{{ raise_exception('no') }}{% endif %}x"
    assert tokenizer.decode(reader(tokenizer, picky).test_prompt()) == "x"


#: Templates that work for no conversation, and what is said of them.
BROKEN = {
    "{% if %}": "TemplateSyntaxError: Expected an expression",
    "{{ nothing.here }}": "UndefinedError: 'nothing' is undefined",
    "{{ 1 + messages[0].content }}": r"TypeError: unsupported operand type",
    "{{ {}['x'].y }}": "UndefinedError",
    "{{ messages[0].content | no_filter }}": "No filter named 'no_filter'",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "RecursionError",
    "{{ ''.__class__.__mro__ }}": "SecurityError",
    "{{ range(10 ** 9) }}": "OverflowError",
    "{{ raise_exception('never') }}": "refuses this conversation: never",
    "{{ '' }}": "renders nothing",
    "": "renders nothing",
    "<|im_start|>": "no embedding",
    "x" * 40_000: "at least",
}


@pytest.mark.parametrize("template", BROKEN, ids=lambda template: template[:40])
def test_a_template_that_works_for_no_conversation(tokenizer: Any, template: str) -> None:
    known = tokenizer.get_vocab()["<|im_start|>"]
    with pytest.raises(ModelMisconfigured, match=BROKEN[template]) as caught:
        reader(tokenizer, template, known).test_prompt()
    assert caught.value.message.startswith("hf_tiny cannot read a test conversation")
    assert len(caught.value.message) < 1000
