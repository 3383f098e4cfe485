"""The text and the log-probabilities of vLLM's tokens, on its real engine."""

from __future__ import annotations

import math
from typing import Any

import pytest

from arena_llm import Client
from arena_llm.errors import ArenaError
from arena_llm.types import LogprobKind, RawPrompt
from tests.integration.local.conftest import THINKER, VIEWER

PROMPT = "Your move?"

SAMPLED: dict[str, Any] = {"logprob_kind": "sampled", "max_tokens": 1, "seed": 3}


def test_sampled_log_probabilities_are_those_of_the_distribution(known_llm: Client) -> None:
    def top(**options: Any) -> dict[int, float]:
        trace = known_llm.generate(
            VIEWER, PROMPT, top_logprobs=6, **SAMPLED, **options
        ).completion_tokens
        assert trace is not None
        assert trace.kind is LogprobKind.SAMPLED
        return dict(zip(trace.top_ids, trace.top_logprobs, strict=True))

    raw = top(temperature=1.0)
    scores = known_llm.score(VIEWER, PROMPT, [(token,) for token in raw])  # always the model's own
    assert [score.logprob for score in scores] == pytest.approx([*raw.values()], abs=1e-3)
    a, b, *_ = raw
    hot = top(temperature=2.0)
    assert hot[a] - hot[b] == pytest.approx((raw[a] - raw[b]) / 2, abs=1e-3)
    two = top(temperature=1.0, top_k=2)
    assert math.exp(two[a]) + math.exp(two[b]) == pytest.approx(1, abs=1e-3)
    assert {*two.values()} - {two[a], two[b]} == {-math.inf}
    biased = top(temperature=1.0, logit_bias={b: 1.5})
    assert biased[b] - biased[a] == pytest.approx(raw[b] - raw[a] + 1.5, abs=1e-3)
    greedy = top(temperature=0.0)
    assert greedy == {a: 0.0, **dict.fromkeys([*greedy][1:], -math.inf)}


def test_sampled_log_probabilities_under_a_constraint(known_llm: Client) -> None:
    reply = known_llm.generate(VIEWER, PROMPT, regex="[ab]", top_logprobs=6, **SAMPLED)
    assert reply.completion_tokens is not None
    logprobs = reply.completion_tokens.top_logprobs
    assert sum(map(math.exp, logprobs)) == pytest.approx(1, abs=1e-3)
    # Each letter is a token and a byte; no other token is possible.
    assert logprobs[4:] == (-math.inf, -math.inf)


def test_the_kind_that_the_engine_is_not_set_to_is_refused(known_llm: Client) -> None:
    for model, kind in ((VIEWER, "raw"), (THINKER, "sampled")):
        with pytest.raises(ArenaError, match="logprobs_mode") as caught:
            known_llm.generate(model, PROMPT, max_tokens=1, top_logprobs=1, logprob_kind=kind)
        assert caught.value.field == "returns.logprob_kind"


#: The viewer's tokens of the bytes 0x00 to 0xFF follow three special ones.
FIRST_BYTE = 3


@pytest.mark.parametrize(
    ("byte", "text"),
    [(0xFF, "\ufffd" * 4), (0xE2, "\ufffd" * 4), (0x41, "AAAA")],
    ids=["ff", "e2", "letter"],
)
def test_no_byte_of_a_text_is_lost(known_llm: Client, byte: int, text: str) -> None:
    forced = {"logit_bias": {FIRST_BYTE + byte: 100.0}, "temperature": 0, "max_tokens": 4}
    reply = known_llm.generate(VIEWER, RawPrompt(text="a"), **forced)  # type: ignore[arg-type]
    assert reply.text == text
    stream = known_llm.stream(VIEWER, RawPrompt(text="a"), **forced)  # type: ignore[arg-type]
    assert "".join(stream) == text


@pytest.mark.parametrize("end", ["\ufffd", "\u20ac"])
def test_a_prompt_does_not_come_back_in_the_text(known_llm: Client, end: str) -> None:
    """Also a prompt that ends in a part of a character."""
    text = RawPrompt(text=f"a{end}")
    tokens = known_llm.count_tokens(VIEWER, text, return_tokens=True).trace
    assert tokens is not None
    forced = {"logit_bias": {FIRST_BYTE + 0x41: 100.0}, "temperature": 0, "max_tokens": 2}
    for prompt in (text, RawPrompt(token_ids=tokens.ids[:-1])):
        assert known_llm.generate(VIEWER, prompt, **forced).text == "AA"  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", ["\ufffd", "a\ufffdb", "\u20ac", "\U0001f600"])
def test_a_choice_of_any_bytes(known_llm: Client, choice: str) -> None:
    assert known_llm.generate(VIEWER, PROMPT, choices=[choice, f"{choice}!"]).text in (
        choice, f"{choice}!",
    )  # fmt: skip


def test_a_seeded_request_with_a_prompt_of_several_pieces(known_llm: Client) -> None:
    """Read in two pieces, then from the cache: the random numbers are the same."""
    prompt = RawPrompt(token_ids=(1, *[FIRST_BYTE + 0x41, FIRST_BYTE + 0x42] * 200))
    first, cached = (
        known_llm.generate(VIEWER, prompt, seed=5, temperature=2.0, max_tokens=16, token_ids=True)
        for _ in range(2)
    )
    assert (cached.usage.cached_tokens or 0) > 256 > (first.usage.cached_tokens or 0)
    assert first.completion_tokens == cached.completion_tokens
