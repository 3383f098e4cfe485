"""How the prompt and the continuations of a scoring request become tokens."""

from __future__ import annotations

from typing import Any

import pytest

from arena_llm.types import Continuation, ContinuationBoundary, Input, RawPrompt, ScoringRequest
from services.common.errors import InvalidRequest, Unsupported
from services.common.local.request import PromptReader
from tests.support.tokenizers import CONTEXT, make_reader


def test_a_token_that_can_only_be_read_is_refused_as_a_continuation(tokenizer: Any) -> None:
    token = tokenizer.get_vocab()["<|im_start|>"]
    narrow = PromptReader("hf_tiny", tokenizer, None, CONTEXT, 400, token)
    assert narrow.read("<|im_start|>") == [token]
    with pytest.raises(InvalidRequest, match="no embedding") as caught:
        narrow.read_scoring(ScoringRequest("hf_tiny", "x", (Continuation("<|im_start|>"),)))
    assert caught.value.field == "continuations[0]"


def encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def scoring(prompt_input: Input, *texts: str, joined: bool = True) -> ScoringRequest:
    boundary = ContinuationBoundary.JOINED if joined else None
    return ScoringRequest(
        "hf_tiny", prompt_input, tuple(map(Continuation, texts)), boundary=boundary
    )


def test_a_joined_continuation_has_the_tokens_after_the_prompt(tokenizer: Any) -> None:
    """The tokenizer merges "mo" and "ve", which it does not when each is read alone."""
    base = make_reader(tokenizer, None)
    prompt, [joined] = base.read_scoring(scoring("a mo", "ve 7"))
    whole = encode(tokenizer, "a move 7")
    assert joined == whole[len(prompt) :]
    _, [separate] = base.read_scoring(scoring("a mo", "ve 7", joined=False))
    assert separate == encode(tokenizer, "ve 7")
    assert separate != joined


def test_a_joined_continuation_without_a_token_of_its_own(tokenizer: Any) -> None:
    base = make_reader(tokenizer, None)
    assert len(encode(tokenizer, "mov")) >= len(encode(tokenizer, "move")), "it merges"
    with pytest.raises(InvalidRequest, match="adds no token") as caught:
        base.read_scoring(scoring("mov", "7", "e"))
    assert caught.value.field == "continuations[1]"


def test_a_joined_continuation_after_a_template(tokenizer: Any) -> None:
    prompt, [joined] = make_reader(tokenizer).read_scoring(scoring("0 or 8?", "8"))
    assert tokenizer.decode([*prompt, *joined]).endswith("<|im_start|>assistant\n8")


@pytest.mark.parametrize("joined", [True, False])
def test_token_ids_of_a_continuation_are_used_unchanged(tokenizer: Any, joined: bool) -> None:
    boundary = ContinuationBoundary.JOINED if joined else None
    texts = (Continuation(token_ids=(5, 6)),)
    request = ScoringRequest("hf_tiny", "7", texts, boundary=boundary)
    assert make_reader(tokenizer).read_scoring(request)[1] == [[5, 6]]


def test_a_prompt_of_token_ids_cannot_be_joined(tokenizer: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_reader(tokenizer).read_scoring(scoring(RawPrompt(token_ids=(5,)), "a"))
    assert caught.value.field == "boundary"


def test_an_encoder_does_not_join(tokenizer: Any) -> None:
    both = PromptReader("hf_tiny", tokenizer, None, CONTEXT, 400, encoder_decoder=True)
    with pytest.raises(Unsupported) as caught:
        both.read_scoring(scoring("7", "a"))
    assert caught.value.field == "boundary"
