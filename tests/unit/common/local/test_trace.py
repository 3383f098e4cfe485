"""The columns of a token trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from arena_llm.types import Continuation, CountRequest, LogprobKind, ScoringRequest, TokenTrace
from services.common.local.trace import (
    ScoredText,
    ScoredToken,
    make_count,
    make_scoring,
    make_trace,
)
from services.common.local.vocabulary import Vocabulary
from tests.support.tiny_models import make_checkpoint


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = make_checkpoint(tmp_path_factory.mktemp("model"), "llama")
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Any) -> Vocabulary:
    return Vocabulary(tokenizer)


def test_a_text_and_where_its_tokens_end(tokenizer: Any, vocabulary: Vocabulary) -> None:
    ids = tokenizer("<|im_start|>a日b").input_ids
    trace = make_trace(vocabulary, ids, with_text=True)
    assert trace.raw_text == "<|im_start|>a日b"
    # The character of three tokens ends with the last of them.
    assert trace.text_ends == (12, 13, 13, 13, 14, 15)
    assert b"".join(trace.bytes).decode() == trace.raw_text


def test_half_a_character_at_the_end(tokenizer: Any, vocabulary: Vocabulary) -> None:
    ids = tokenizer("日").input_ids[:2]
    trace = make_trace(vocabulary, ids, with_text=True)
    assert (trace.raw_text, trace.text_ends) == ("\ufffd", (0, 1))


def test_scored_tokens_after_unscored_ones(vocabulary: Vocabulary) -> None:
    scored = [ScoredToken(-1.0, ((7, -0.5), (8, -1.0))), ScoredToken(-2.0, ((9, -0.1), (7, -2.0)))]
    trace = make_trace(vocabulary, [5, 8, 7], scored, kind=LogprobKind.SAMPLED)
    assert (trace.unscored, trace.top_count, trace.kind) == (1, 2, LogprobKind.SAMPLED)
    assert [token.logprob for token in trace] == [None, -1.0, -2.0]
    assert [[top.id for top in token.top] for token in trace] == [[], [7, 8], [9, 7]]
    assert trace[1].top[0].bytes == vocabulary.written_bytes(7)


def test_a_vocabulary_without_bytes() -> None:
    assert make_trace(None, [1, 2]) == TokenTrace(ids=(1, 2))


def test_a_scoring(vocabulary: Vocabulary) -> None:
    request = ScoringRequest("hf_a", "x", (Continuation("a"),) * 2, prompt_logprobs=True)
    texts = [
        ScoredText([ScoredToken(-1.0), ScoredToken(-0.5)], True),
        ScoredText([ScoredToken(-3.0)], False),
    ]
    scoring = make_scoring(
        vocabulary, request, [1, 2], [[5, 6], [7]], texts, [ScoredToken(-9.0)], 1
    )
    assert [(score.logprob, score.is_greedy) for score in scoring] == [(-1.5, True), (-3.0, False)]
    assert scoring[0].tokens.ids == (5, 6)
    assert scoring.prompt_tokens is not None
    assert (scoring.prompt_tokens.ids, scoring.prompt_tokens.unscored) == ((1, 2), 1)
    assert (scoring.usage.prompt_tokens, scoring.usage.completion_tokens) == (2, 3)


@pytest.mark.parametrize("return_tokens", [False, True])
def test_a_count(vocabulary: Vocabulary, return_tokens: bool) -> None:
    count = make_count(vocabulary, CountRequest("hf_a", "x", return_tokens=return_tokens), [5, 6])
    assert (count.tokens, count.estimated) == (2, False)
    assert (count.trace is not None) == return_tokens
