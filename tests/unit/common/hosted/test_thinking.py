"""Reasoning between <think> and </think> is split from the text, wherever the pieces are cut."""

from __future__ import annotations

import random

import pytest

from services.common.hosted.thinking import ThoughtSplitter
from services.common.hosted.tokens import TokenRow, drop_rows

#: A content, its reasoning and its text.
CONTENTS = [
    ("<think>Hm</think>Yes", "Hm", "Yes"),
    ("<think>\nHm. So\n</think>\n\nYes\n", "Hm. So", "Yes\n"),
    (" \n<think>Hm</think> Yes", "Hm", "Yes"),
    ("<think>2 < 3, </ and </thin</think>Yes", "2 < 3, </ and </thin", "Yes"),
    ("<think>größe 😀</think>größe 😀", "größe 😀", "größe 😀"),
    ("<think></think>Yes", "", "Yes"),
    ("<think>\n\n</think>\n\n<think>Hm</think>Yes", "Hm", "Yes"),
    ("<think>Hm", "Hm", ""),
    ("<think>Hm</th", "Hm</th", ""),
    ("<think>", "", ""),
    ("<think>Hm</think>", "Hm", ""),
    ("<think>Hm</think>Yes <think>no</think>", "Hm", "Yes <think>no</think>"),
    ("Yes <think>no</think>", "", "Yes <think>no</think>"),
    ("<thinking>no</thinking>", "", "<thinking>no</thinking>"),
    ("<thi", "", "<thi"),
    (" \n", "", " \n"),
    ("Hm</think>Yes", "", "Hm</think>Yes"),
    ("", "", ""),
]


def split(pieces: list[str]) -> tuple[str, str, ThoughtSplitter]:
    splitter = ThoughtSplitter()
    parts = [*map(splitter.feed, pieces), splitter.flush()]
    return "".join(r for r, _ in parts), "".join(t for _, t in parts), splitter


@pytest.mark.parametrize(("content", "reasoning", "text"), CONTENTS)
def test_any_pieces_make_the_same(content: str, reasoning: str, text: str) -> None:
    assert split([content])[:2] == (reasoning, text)
    assert split(list(content))[:2] == (reasoning, text)
    chance = random.Random(7)  # noqa: S311 - not for security
    for _ in range(100):
        places = sorted(chance.choices(range(len(content) + 1), k=3))
        pieces = [content[a:b] for a, b in zip([0, *places], [*places, None], strict=True)]
        assert split(pieces)[:2] == (reasoning, text), pieces


@pytest.mark.parametrize(("content", "reasoning", "text"), CONTENTS)
def test_the_tokens_before_the_text_are_dropped(content: str, reasoning: str, text: str) -> None:
    rows = [TokenRow(character.encode(), -1.0) for character in content]
    _, _, splitter = split(list(content))
    kept = b"".join(row.text for row in drop_rows(rows, splitter.skipped)).decode()
    assert kept == (text if text else content)
