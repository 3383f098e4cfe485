"""The tables in a terminal, and the formats of numbers."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from arena.report import Report, formatting, print_tables
from arena_llm.types import to_picousd
from tests import golden
from tests.support.random_play import Played, asked, play, write


@pytest.mark.parametrize("name", [name for name in golden.GOLDEN if name.startswith("report/")])
def test_a_report_is_equal_to_its_golden_file(name: str) -> None:
    golden.compare(name)


def printed(path: Path, width: int = 160) -> str:
    out = io.StringIO()
    print_tables(Report.load(path), Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


def failed(number: int, reason: str) -> Played:
    game = play("tic_tac_toe", ("hf_one", "random"), number)
    error = replace(game.moves[0], status="error", problem=reason, action=None)
    return Played(replace(game.row, status="failed", reason=reason), (error,))


def test_failed_episodes_only(tmp_path: Path) -> None:
    text = printed(write(tmp_path / "r.db", [failed(0, "A B c"), failed(1, "A B c")]))
    assert "2 episodes (0 finished, 0 forfeited, 2 failed)" in text
    assert re.search(r"hf_one +- +met nobody +0 +2\n", re.sub(r" +\n", "\n", text))


def test_no_episodes(tmp_path: Path) -> None:
    text = printed(write(tmp_path / "r.db", [], {"hf_one": "llm"}))
    assert "0 episodes" in text
    assert "No episode has ended yet." in text


def test_a_player_in_both_seats_counts_twice(tmp_path: Path) -> None:
    text = printed(write(tmp_path / "r.db", [play("matrix_rps", ("hf_one", "hf_one"), 0)]))
    assert re.search(r"hf_one +2 ", text.split("Wins, draws, losses")[1])
    assert "met nobody" in text


def test_untrusted_text_cannot_control_the_terminal(tmp_path: Path) -> None:
    hostile = "A B \x1b[2J\x1b]0;owned\x07 [bold red]x[/] \u202egnp\r\n[/nothing]"
    text = printed(write(tmp_path / "r.db", [failed(0, hostile)]))
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "[bold red]x[/]" in text


def test_a_narrow_terminal_keeps_names_and_numbers(tmp_path: Path) -> None:
    names = ("openrouter_someone/a-model-name", "hf_other")
    games = [
        play(game, names, number, lambda row: [asked(row)])
        for game in ("tic_tac_toe", "kuhn_poker")
        for number in range(6)
    ]
    path = write(tmp_path / "r.db", games)
    wide, narrow = printed(path, 200), printed(path, 80)
    assert max(map(len, narrow.splitlines())) <= 80
    for name in ("tic_tac_toe", "kuhn_poker", "hf_other"):
        assert narrow.count(name) == wide.count(name) >= 4
    numbers = re.compile(r"[($]?\b\d[-\d.,]*\b\)?")
    assert len(numbers.findall(wide)) > 50
    assert Counter(numbers.findall(narrow)) == Counter(numbers.findall(wide))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "$0.00"),
        (12.345, "$12.35"),
        (0.6, "$0.60"),
        (0.0123, "$0.012"),
        (0.00001, "$1.0e-05"),
    ],
)
def test_dollars(value: float | None, text: str) -> None:
    picousd = None if value is None else to_picousd(value)
    assert formatting.format_dollars(picousd) == text


@pytest.mark.parametrize(
    ("known", "unknown", "text"),
    [
        (False, False, "-"),
        (True, False, "$0.50"),
        (False, True, "unknown"),
        (True, True, "$0.50 + unknown"),
    ],
)
def test_a_cost_says_if_a_part_is_unknown(known: bool, unknown: bool, text: str) -> None:
    assert formatting.format_cost(5 * 10**11, known=known, unknown=unknown) == text


@pytest.mark.parametrize(("ms", "text"), [(None, "-"), (12.3, "12 ms"), (2345.0, "2.3 s")])
def test_durations(ms: float | None, text: str) -> None:
    assert formatting.format_duration(ms) == text
