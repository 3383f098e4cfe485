"""Escaping of the characters that control a terminal."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest

from arena_llm.terminal import escape_unsafe, fold, fold_words

KEPT = {"\n", "\t"}
OBEYED = {"Cc", "Cs", "Zl", "Zp"}
TURNED = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
#: Without width or use in text: direction marks, tags, word joiners.
HIDDEN = "\xad\u061c\u180e\u200b\u200e\u200f\u2060\u2064\ufeff\U000e0001\U000e0061\U000e007f"


def test_every_character_that_acts_on_a_terminal_is_escaped() -> None:
    acting = {
        char
        for char in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(char) in OBEYED or unicodedata.bidirectional(char) in TURNED
    }
    for char in (acting - KEPT) | set(HIDDEN):
        assert escape_unsafe(char).isascii(), f"U+{ord(char):04X}"
        assert escape_unsafe(char).isprintable(), f"U+{ord(char):04X}"
        assert json.loads(f'"{escape_unsafe(char)}"') == char


def test_every_character_that_prints_is_kept() -> None:
    printing = "".join(char for char in map(chr, range(sys.maxunicode + 1)) if char.isprintable())
    assert escape_unsafe(printing) == printing


@pytest.mark.parametrize(
    "text", ["", "a\n\tb", "schön ♟ 将", "👩\u200d👧", "\u0645\u06cc\u200c\u062e", "\u00a0"]
)
def test_text_of_people_is_kept(text: str) -> None:
    assert escape_unsafe(text) == text


def test_a_document_stays_a_document() -> None:
    value = {"text": "\x1b[2J\x9b31m\x7f\u202eevil", "path": "C:\\x1b"}
    assert json.loads(escape_unsafe(json.dumps(value, ensure_ascii=False))) == value


def test_pieces_are_escaped_as_the_whole() -> None:
    text = "a\x1b]0;title\x07b\r\nc\u202ed"
    assert "".join(map(escape_unsafe, text)) == escape_unsafe(text)
    assert escape_unsafe(text) == "a\\u001b]0;title\\u0007b\\r\nc\\u202ed"


def test_words_stay_whole_and_so_do_commands_and_paths() -> None:
    path = "/a/path/that-is/longer/than/the-line"
    text = f"no such file: {path}\nchoose another:\n  make up SERVICE=hf N=3 ARENA_HF_PORT=1"
    assert fold_words(text, 20).split("\n") == [
        "no such file:",
        path,
        "choose another:",
        "  make up SERVICE=hf N=3 ARENA_HF_PORT=1",
    ]


def test_only_a_terminal_gets_broken_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "10")
    assert fold(Terminal(), "one two three") == "one two\nthree"
    assert fold(io.StringIO(), "one two three") == "one two three"
