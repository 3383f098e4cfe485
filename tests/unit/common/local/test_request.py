"""Prompts become tokens: chat templates, raw text, and input that is refused."""

from __future__ import annotations

import copy
import tracemalloc
from typing import Any

import pytest
from tokenizers import processors

from arena_llm.types import (
    Choices,
    Conversation,
    CountRequest,
    Input,
    Message,
    RawPrompt,
    Refusal,
    Text,
)
from services.common.errors import BackendError, ContextTooLong, InvalidRequest, Unsupported
from services.common.local.request import PromptReader
from tests.support.replies import list_messages
from tests.support.tiny_models import CHATML
from tests.support.tokenizers import CONTEXT, make_reader

TALK = Conversation((Message("system", "Play."), Message("user", "0 or 8?")))


def test_a_chat_model_sees_its_template(tokenizer: Any) -> None:
    def shown(test_input: Input) -> str:
        return str(tokenizer.decode(make_reader(tokenizer).read(test_input)))

    assert shown("0 or 8?") == "<|im_start|>user\n0 or 8?<|im_end|>\n<|im_start|>assistant\n"
    assert shown(TALK).startswith("<|im_start|>system\nPlay.<|im_end|>\n<|im_start|>user\n0 or 8?")


def test_the_words_of_every_reply_can_be_read(tokenizer: Any) -> None:
    """Also those of a refusal, and an empty reply, which is an empty turn."""
    prompts = PromptReader("hf_tiny", tokenizer, CHATML, 100_000, 400)
    ask = Message("user", "0 or 8?")
    for message in list_messages(60):
        words = Message("assistant", [p for p in message.parts if isinstance(p, Text | Refusal)])
        text = tokenizer.decode(prompts.read(Conversation((ask, words, ask))))
        said = message.text + message.refusal
        assert f"<|im_start|>assistant\n{said}<|im_end|>\n<|im_start|>user" in text


def test_a_base_model_sees_the_text_itself(tokenizer: Any) -> None:
    assert tokenizer.decode(make_reader(tokenizer, None).read("0 or 8?")) == "0 or 8?"


#: Input, template, error, its field, its message.
REFUSED: list[tuple[Input, str | None, type[BackendError], str, str]] = [
    (TALK, None, Unsupported, "conversation", "base model"),
    (TALK, "{{ raise_exception('system first') }}", InvalidRequest, "conversation", "system first"),
    ("x", "{{ '' }}", InvalidRequest, "prompt", "renders nothing"),
    ("x" * 5_000_000, CHATML, ContextTooLong, "prompt", "at least"),
    ("日" * 1_700_000, None, ContextTooLong, "prompt", "at least"),
    (
        Conversation((Message("user", "x" * 5_000_000),)),
        CHATML,
        ContextTooLong,
        "conversation",
        "at least",
    ),
]


@pytest.mark.timeout(20)  # 5 MB are not tokenized
@pytest.mark.parametrize(
    ("test_input", "template", "error", "field", "why"), REFUSED, ids=lambda value: repr(value)[:30]
)
def test_unreadable_input_is_refused(
    tokenizer: Any,
    test_input: Input,
    template: str | None,
    error: type[BackendError],
    field: str,
    why: str,
) -> None:
    with pytest.raises(error, match=why) as caught:
        make_reader(tokenizer, template).read(test_input)
    assert caught.value.field == field


def test_a_token_without_an_embedding_never_reaches_the_engine(tokenizer: Any) -> None:
    """The chat template of another model may write one."""
    small = make_reader(tokenizer, tokens=tokenizer.get_vocab()["<|im_start|>"])
    with pytest.raises(InvalidRequest, match="no embedding") as caught:
        small.read("0 or 8?")
    assert caught.value.field == "prompt"


@pytest.mark.parametrize(
    ("prompt", "completion", "field"),
    [
        (CONTEXT, 1, "prompt"),
        (CONTEXT - 4, 5, "config.max_tokens"),
        (1, 2**31 - 1, "config.max_tokens"),
    ],
)
def test_input_over_the_context_length_is_refused(
    tokenizer: Any, prompt: int, completion: int, field: str
) -> None:
    with pytest.raises(ContextTooLong) as caught:
        make_reader(tokenizer).check_room("x", prompt, completion, "config.max_tokens")
    assert caught.value.field == field
    assert caught.value.metadata["context_length"] == str(CONTEXT)


def test_an_encoder_decoder_model_has_a_context_for_each(tokenizer: Any) -> None:
    both = PromptReader("hf_tiny", tokenizer, None, CONTEXT, 400, encoder_decoder=True)
    both.check_room("x", CONTEXT, CONTEXT, "config.max_tokens")
    with pytest.raises(ContextTooLong):
        both.check_room("x", 1, CONTEXT + 1, "config.max_tokens")


def test_input_that_fits_exactly_is_accepted(tokenizer: Any) -> None:
    make_reader(tokenizer).check_room("x", CONTEXT - 4, 4, "config.max_tokens")


@pytest.mark.parametrize(
    ("stop", "most", "field"), [(("2",), None, "config.stop"), ((), 2, "config.max_tokens")]
)
def test_parameters_that_would_cut_a_choice_are_refused(
    tokenizer: Any, stop: tuple[str, ...], most: int | None, field: str
) -> None:
    with pytest.raises(InvalidRequest, match="123") as caught:
        make_reader(tokenizer).check_choices(Choices(("1", "123")), stop, most)
    assert caught.value.field == field


def encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def test_a_raw_prompt_has_no_template(tokenizer: Any) -> None:
    chat = make_reader(tokenizer)
    assert chat.read(RawPrompt("0 or 8?")) == encode(tokenizer, "0 or 8?")
    assert chat.read(RawPrompt(token_ids=(5, 2, 7))) == [5, 2, 7]


def test_a_raw_prompt_says_whether_special_tokens_are_added(tokenizer: Any) -> None:
    adding = copy.deepcopy(tokenizer)
    adding.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", 0)]
    )
    plain = encode(tokenizer, "7")
    for special, expected in ((None, [0, *plain]), (True, [0, *plain]), (False, plain)):
        raw = RawPrompt("7", add_special_tokens=special)
        assert make_reader(adding).read(raw) == expected


@pytest.mark.parametrize(
    ("raw", "error", "field"),
    [
        (RawPrompt(token_ids=(400,)), InvalidRequest, "raw.token_ids"),
        (RawPrompt("x" * 5_000_000), ContextTooLong, "raw.text"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_unreadable_raw_prompt_is_refused(
    tokenizer: Any, raw: RawPrompt, error: type[BackendError], field: str
) -> None:
    with pytest.raises(error) as caught:
        make_reader(tokenizer).read(raw)
    assert caught.value.field == field


def test_a_count_may_be_longer_than_the_context(tokenizer: Any) -> None:
    tokens = make_reader(tokenizer).read_count(CountRequest("hf_tiny", "7" * CONTEXT))
    assert len(tokens) > CONTEXT


def test_tokens_of_long_texts_are_not_kept(tokenizer: Any) -> None:
    prompts = make_reader(tokenizer)
    tracemalloc.start()
    try:
        for number in range(200):
            prompts.encode_choice(f"{number} " + "a" * 2000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1e6
