"""From tokens to text, and stop strings in answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from arena_llm.types import Delta, StopMatch, ToolCallDelta
from services.vllm.text import AnswerEnd, TokenDecoder

#: The bytes of a small vocabulary. The last token is a special one.
BYTES = [b"a", b"\xe2", b"\x82", b"\xac", b"\xff", b"<end>"]


class SmallVocabulary:
    """Its last token is a special token."""

    @staticmethod
    def token_bytes(token: int) -> bytes:
        return b"" if token == len(BYTES) - 1 else BYTES[token]

    @staticmethod
    def written_bytes(token: int) -> bytes:
        return BYTES[token]


def decode(tokens: Iterable[int], *, shows_special: bool = False) -> list[str]:
    vocabulary: Any = SmallVocabulary()
    decoder = TokenDecoder(vocabulary, shows_special=shows_special)
    return [*map(decoder.push, tokens), decoder.finish()]


@pytest.mark.parametrize(
    ("tokens", "texts"),
    [
        ([0, 0], ["a", "a", ""]),
        ([1, 2, 3, 0], ["", "", "\u20ac", "a", ""]),
        ([1, 0], ["", "\ufffda", ""]),
        ([4, 0], ["\ufffd", "a", ""]),
        ([0, 1, 2], ["a", "", "", "\ufffd"]),
        ([0, 5, 0], ["a", "", "a", ""]),
    ],
)
def test_no_byte_is_lost(tokens: list[int], texts: list[str]) -> None:
    assert decode(tokens) == texts


def test_a_parser_can_see_special_tokens() -> None:
    assert decode([0, 5], shows_special=True) == ["a", "<end>", ""]


THINK, CALL = Delta(reasoning="a|b"), Delta(tool_call=ToolCallDelta("1", "look", "|"))


def cut(end: AnswerEnd, *deltas: Delta) -> list[Delta]:
    """What the deltas of one token each become, up to the end of the answer."""
    released: list[Delta] = []
    for count, delta in enumerate(deltas, start=1):
        released += end.cut([delta], count)
        if end.match is not None:
            return released
    return [*released, *end.finish()]


def test_reasoning_and_calls_are_not_searched() -> None:
    end = AnswerEnd(("|",), {})
    assert cut(end, THINK, CALL) == [THINK, CALL]
    assert end.match is None


def test_the_answer_ends_before_its_stop_string() -> None:
    end = AnswerEnd(("|b", "c"), {})
    texts = [Delta(text=text) for text in ("a", "|", "bc", "d")]
    assert cut(end, THINK, *texts) == [THINK, Delta(text="a")]
    assert end.match == StopMatch(text="|b")


def test_what_may_begin_a_stop_string_stays_before_a_call() -> None:
    end = AnswerEnd(("|b",), {})
    assert cut(end, Delta(text="a|"), CALL, Delta(text="b")) == [
        Delta(text="a"), Delta(text="|"), CALL, Delta(text="b"),
    ]  # fmt: skip
    assert end.match is None


def test_the_answer_ends_before_its_stop_token() -> None:
    end = AnswerEnd(("<end>",), {5: StopMatch(text="<end>"), 7: StopMatch(token_id=7)}, 2)
    assert [end.is_stop(token, count) for count, token in enumerate((5, 1, 7), start=1)] == [
        False, False, True,
    ]  # fmt: skip
    assert end.match == StopMatch(token_id=7)


def test_no_stop_string_ends_the_answer_before_min_tokens() -> None:
    end = AnswerEnd(("a",), {}, min_tokens=2)
    assert cut(end, Delta(text="a"), Delta(text="ba")) == [Delta(text="a"), Delta(text="b")]
    assert end.match == StopMatch(text="a")
