"""Single values of a provider's JSON."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from arena_llm.types import to_picousd
from services.common.errors import UnreadableAnswer, repair_text
from services.common.hosted.parts import SurrogateJoiner
from services.common.hosted.values import count, label, load_json, load_values, picousd
from tests.support.upstreams.answers import COSTS, COUNTS


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": "\\ud83d"}', {"a": "\ud83d"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (b"\xef\xbb\xbf[1]", [1]),
        (b'"a\xff"', "a\ufffd"),
        (b"[Infinity]", [math.inf]),
        (b"1" * 5000, math.inf),
        (b"-" + b"1" * 5000, -math.inf),
        (b"1" * 30, int("1" * 30)),
    ],
)
def test_invalid_json_that_is_accepted(data: bytes, value: Any) -> None:
    assert load_json(data) == value


@pytest.mark.parametrize("data", [b"", b"{", b"{} x", b"<html>", b"[" * 100_000, b"\xff"])
def test_other_text_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - from json or its own
        load_json(data)


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"7", [7]),
        (b" {} ", [{}]),
        (b"{}[1]", [{}, [1]]),
        (b'{"a": 1}\n{"a": 2}\r\n', [{"a": 1}, {"a": 2}]),
        (b"\xef\xbb\xbf1 2", [1, 2]),
    ],
)
def test_several_values_in_a_row(data: bytes, values: list[Any]) -> None:
    assert load_values(data) == values


def test_values_with_other_text_after_them() -> None:
    for data in (b"{} x", b"{}\n{", b"[1] \x00"):
        with pytest.raises(UnreadableAnswer, match="Extra data"):
            load_values(data)
    for data in (b"", b" ", b"x", b"{", b"[" * 100_000):
        with pytest.raises(ValueError):  # noqa: PT011 - with any text
            load_values(data)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.0000000375", 37_500), ("1e-9999999999999999999", 0), (-0.0, 0), (0.1, 10**11)],
)
def test_amounts_are_exact(value: Any, expected: int) -> None:
    assert picousd(value) == expected


def test_surrogates_are_joined_wherever_the_text_is_cut() -> None:
    dice = random.Random(7)  # noqa: S311 - the same texts each time
    for _ in range(2000):
        text = "".join(dice.choice("aß😀\ud83d\ude00\udbff\udfff") for _ in range(8))
        units = text.encode("utf-16-le", "surrogatepass")
        pieces = []
        while units:
            size = 2 * dice.randrange(4)
            pieces.append(units[:size].decode("utf-16-le", "surrogatepass") if size else "")
            units = units[size:]
        joiner = SurrogateJoiner()
        sent = [*map(joiner.join, pieces), joiner.flush()]
        assert "".join(sent) == repair_text(text)
        "".join(sent).encode()


@pytest.mark.parametrize("case", COUNTS)
def test_counts(case: str) -> None:
    value, expected = COUNTS[case]
    assert count(value) == expected


@pytest.mark.parametrize("case", COSTS)
def test_amounts(case: str) -> None:
    value, expected = COSTS[case]
    assert picousd(value) == (None if expected is None else to_picousd(expected))


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "a"), (7, "7"), (None, ""), (True, ""), ([], ""), ("a\ud83d", "a\ufffd")],
)
def test_labels(value: Any, expected: str) -> None:
    assert label(value) == expected
