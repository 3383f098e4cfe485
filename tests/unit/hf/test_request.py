"""Requests become Sequences of the hf engine, with every kind of checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from arena_llm.types import (
    Choices,
    Constraint,
    Continuation,
    Conversation,
    Input,
    Message,
    ScoringRequest,
)
from services.common.errors import BackendError, ContextTooLong, InvalidRequest, Unsupported
from services.hf.loading import LoadedModel
from services.hf.request import prepare_generation, prepare_scoring
from services.hf.sequence import Sequence
from tests.support.broken_models import add_far_token
from tests.support.tiny_models import make_checkpoint
from tests.unit.hf.conftest import Models
from tests.unit.hf.engine_driver import NAME, DrivenRequest, engine, load_tiny, request

CONTEXT = 512
TALK = Conversation((Message("system", "Play."), Message("user", "0 or 8?")))


def prepared(loaded: LoadedModel, prompt_input: Input = "Your move?", **options: Any) -> Sequence:
    return prepare_generation(loaded, request(prompt_input, **options), 16, lambda event: None)


def shown(loaded: LoadedModel, prompt_input: Input) -> str:
    return str(loaded.tokenizer.decode(prepared(loaded, prompt_input).prompt))


def test_a_chat_model_sees_its_template(model: Models) -> None:
    loaded = model("llama-chat")
    assert shown(loaded, "0 or 8?") == (
        "<|im_start|>user\n0 or 8?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert shown(loaded, TALK) == (
        "<|im_start|>system\nPlay.<|im_end|>\n<|im_start|>user\n0 or 8?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_base_model_sees_the_text_itself(model: Models) -> None:
    assert shown(model("llama"), "0 or 8?") == "0 or 8?"


def test_a_base_model_refuses_a_conversation(model: Models) -> None:
    with pytest.raises(Unsupported, match="base model without a chat template") as caught:
        prepared(model("llama"), TALK)
    assert caught.value.field == "conversation"


def test_a_conversation_that_the_template_refuses(model: Models, tmp_path: Any) -> None:
    folder = make_checkpoint(tmp_path / "picky", "llama")
    template = tmp_path / "template.jinja"
    template.write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x"
    )
    with pytest.raises(InvalidRequest, match="no system") as caught:
        prepared(load_tiny(folder, chat_template=template), TALK)
    assert caught.value.field == "conversation"


TOO_LONG: list[tuple[str, Input, dict[str, Any], str]] = [
    ("llama", "7" * CONTEXT, {}, "prompt"),
    ("llama", "7" * CONTEXT, {"max_tokens": 1}, "prompt"),
    ("llama", "7" * (CONTEXT - 4), {"max_tokens": 5}, "config.max_tokens"),
    ("llama", "7", {"max_tokens": 2**31 - 1}, "config.max_tokens"),
    ("llama", "7" * (CONTEXT - 2), {"constraint": Choices(("1", "222"))}, "constraint.choices"),
    ("llama", "x" * 5_000_000, {}, "prompt"),
    ("llama", "日" * 1_700_000, {"max_tokens": 1}, "prompt"),
    ("llama-chat", "x" * 5_000_000, {}, "prompt"),
    ("llama-chat", Conversation((Message("user", "7" * CONTEXT),)), {}, "conversation"),
    ("llama-chat", Conversation((Message("user", "x" * 5_000_000),)), {}, "conversation"),
    ("t5", "x" * 5_000_000, {}, "prompt"),
    ("t5", "7", {"max_tokens": CONTEXT + 1}, "config.max_tokens"),
]  # fmt: skip


@pytest.mark.timeout(20)  # 5 MB are not tokenized
@pytest.mark.parametrize(
    ("name", "prompt_input", "options", "field"), TOO_LONG, ids=lambda value: repr(value)[:30]
)
def test_input_over_the_context_length_is_refused(
    model: Models, name: str, prompt_input: Input, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(ContextTooLong) as caught:
        prepared(model(name), prompt_input, **options)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("name", "digits", "max_tokens", "allowed"),
    [
        ("llama", CONTEXT - 4, 4, 4),
        ("llama", CONTEXT - 1, None, 1),
        ("llama", CONTEXT - 4, None, 4),
        ("llama", 8, None, 16),
        (
            "t5",
            8,
            CONTEXT,
            CONTEXT,
        ),  # an encoder-decoder model has one context for the prompt and one for the completion
    ],
)
def test_input_that_fits_exactly_is_complete(
    model: Models, name: str, digits: int, max_tokens: int | None, allowed: int
) -> None:
    sequence = prepared(model(name), "7" * digits, max_tokens=max_tokens)
    assert len(sequence.prompt) >= digits
    assert sequence.max_tokens == allowed


@pytest.mark.parametrize(
    ("sampling", "field"),
    [({"max_tokens": 2}, "config.max_tokens"), ({"stop": ("2",)}, "config.stop")],
)
def test_parameters_that_would_cut_a_choice_are_refused(
    model: Models, sampling: dict[str, Any], field: str
) -> None:
    choices: Constraint = Choices(("1", "123"))
    with pytest.raises(InvalidRequest, match="123") as caught:
        prepared(model("llama"), constraint=choices, **sampling)
    assert caught.value.field == field


def test_a_choice_has_room_for_any_tokenization(model: Models) -> None:
    """As many tokens as bytes, because the model may write it letter by letter."""
    assert prepared(model("llama"), constraint=Choices(("Choose", "日"))).max_tokens == 6


def scoring(prompt_input: Input, *continuations: str) -> ScoringRequest:
    return ScoringRequest(NAME, prompt_input, tuple(map(Continuation, continuations)))


@pytest.mark.parametrize(
    ("prompt_input", "continuations", "error", "field"),
    [
        ("7" * CONTEXT, ("1",), ContextTooLong, "prompt"),
        ("7", ("1", "7" * CONTEXT), ContextTooLong, "continuations"),
        (TALK, ("1",), Unsupported, "conversation"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_scoring_has_the_same_limits(
    model: Models,
    prompt_input: Input,
    continuations: tuple[str, ...],
    error: type[BackendError],
    field: str,
) -> None:
    with pytest.raises(error) as caught:
        prepare_scoring(model("llama"), scoring(prompt_input, *continuations), lambda sums: None)
    assert caught.value.field == field


def test_each_continuation_is_tokenized_by_itself(model: Models) -> None:
    loaded = model("llama")
    job = prepare_scoring(loaded, scoring("Choose a", " move", "0"), lambda sums: None)
    assert [loaded.tokenizer.decode(tokens) for tokens in job.continuations] == [" move", "0"]
    assert loaded.tokenizer.decode(job.prompt) == "Choose a"


@pytest.fixture
def far(tmp_path: Path) -> LoadedModel:
    """A tokenizer with a token that its model cannot read."""
    return load_tiny(add_far_token(make_checkpoint(tmp_path / "far", "llama"), "<|far|>"))


def test_a_token_without_an_embedding_is_refused_before_it_fails_a_batch(far: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="no embedding") as caught:
        prepared(far, "Choose <|far|>")
    assert caught.value.field == "prompt"
    for prompt_input, texts, field in [
        ("Choose", ("0", "1", "a <|far|>"), "continuations[2]"),
        ("<|far|>", ("0",), "prompt"),
    ]:
        with pytest.raises(InvalidRequest, match="no embedding") as caught:
            prepare_scoring(far, scoring(prompt_input, *texts), lambda sums: None)
        assert caught.value.field == field


def test_a_choice_with_an_unknown_token_is_written_letter_by_letter(far: LoadedModel) -> None:
    with engine(far.forward) as running:
        requests = DrivenRequest(far, running, request("7", Choices(("<|far|>",))))
        assert requests.completion().text == "<|far|>"
