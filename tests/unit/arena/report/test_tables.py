"""The tables as a terminal shows them."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from arena.report import Report, print_tables, words
from arena.report.answers import Answers
from arena.results.rows import MoveRow
from tests.support.random_play import Played, asked, play, write


def printed(path: Path, width: int = 160) -> str:
    out = io.StringIO()
    print_tables(Report.load(path), Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


def row_of(text: str, title: str, *cells: str) -> str:
    """The row of a table that begins with these cells."""
    table = text.split(title)[1]
    for line in table.splitlines():
        if line.split()[: len(cells)] == list(cells):
            return line
    raise AssertionError(f"no row {cells} in:\n{table}")


def failed(number: int, reason: str) -> Played:
    found = play("tic_tac_toe", ("hf_one", "random"), number)
    error = replace(found.moves[0], status="error", problem=reason, action=None)
    return Played(replace(found.row, status="failed", reason=reason), (error,))


def test_all_tables_have_their_numbers(tmp_path: Path) -> None:
    def answer(row: MoveRow) -> list[MoveRow]:
        same = {"latency_ms": 1500.0, "prompt_tokens": 120, "completion_tokens": 7}
        return [asked(row, **same, cost_usd=0.01)] if row.agent == "hf_one" else [row]

    game = play("tic_tac_toe", ("hf_one", "random"), 0, answer)
    turns = sum(move.agent == "hf_one" for move in game.moves)
    reason = "UNAVAILABLE BACKEND_DOWN hf at localhost:50054"
    text = printed(write(tmp_path / "r.db", [game, failed(1, reason)]))
    assert "2 episodes: 1 finished, 0 forfeited, 1 failed" in text
    assert "1 of 1 results: OpenSpiel's replay has the same returns" in text
    mine = game.row.returns[0] if game.row.returns else 0
    wins, draws, losses = (int(mine == value) for value in (1, 0, -1))
    shares = {0: ["0", "%", "(0-79)"], 1: ["100", "%", "(21-100)"]}
    outcomes = row_of(text, "Wins, draws, losses", "hf_one").split()[1:]
    assert outcomes == [
        "1",
        *(cell for count in (wins, draws, losses) for cell in (str(count), *shares[count])),
        f"{mine:+.2f}",
        "1",
    ]
    assert row_of(text, "Ratings", "hf_one").split()[-1] == "1"
    answers = row_of(text, "Answers", "hf_one").split()
    assert answers[1:4] == [str(turns + 1), str(turns), "0"]
    calls = row_of(text, "Calls of models", "hf_one").split()
    assert calls[1:] == [
        str(turns),
        *("1.5", "s", "1.5", "s"),
        str(round(120 * turns / (turns + 1))),
        str(round(7 * turns / (turns + 1))),
        f"${turns * 0.01:.2g}",
        f"${turns * 0.01 / (turns + 1):.2g}",
        "1",
    ]
    assert "BACKEND_DOWN hf at localhost:50054" in text.split("Failed and forfeited")[1]


def test_only_failed_episodes(tmp_path: Path) -> None:
    text = printed(write(tmp_path / "r.db", [failed(0, "A B c"), failed(1, "A B c")]))
    assert "2 episodes: 0 finished, 0 forfeited, 2 failed" in text
    assert row_of(text, "Ratings", "hf_one").split()[1:] == ["-", "met", "nobody", "0", "2"]


def test_nothing_yet(tmp_path: Path) -> None:
    text = printed(write(tmp_path / "r.db", [], {"hf_one": "llm"}))
    assert "0 episodes" in text
    assert "No episode has ended yet." in text


def test_one_player_in_both_seats(tmp_path: Path) -> None:
    text = printed(write(tmp_path / "r.db", [play("matrix_rps", ("hf_one", "hf_one"), 0)]))
    assert row_of(text, "Wins, draws, losses", "hf_one").split()[1] == "2"
    assert "met nobody" in text


def test_what_others_wrote_cannot_move_the_cursor_or_the_styles(tmp_path: Path) -> None:
    hostile = "A B \x1b[2J\x1b]0;owned\x07 [bold red]x[/] \u202egnp\r\n[/nothing]"
    text = printed(write(tmp_path / "r.db", [failed(0, hostile)]))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "[bold red]x[/]" in text


def test_a_narrow_terminal_loses_no_number(tmp_path: Path) -> None:
    names = ("openrouter_someone/a-model-with-a-long-name-instruct", "hf_other")
    games = [play("tic_tac_toe", names, number, lambda row: [asked(row)]) for number in range(12)]
    path = write(tmp_path / "r.db", games)
    wide, narrow = printed(path, 200), printed(path, 80)
    assert max(map(len, narrow.splitlines())) <= 80
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
    assert words.dollars(value) == text


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (Answers(), "-"),
        (Answers(calls=2, cost_usd=0.5), "$0.50"),
        (Answers(calls=2, unpriced=2), "unknown"),
        (Answers(calls=2, unpriced=1, cost_usd=0.5), "$0.50 + unknown"),
    ],
)
def test_a_cost_says_what_it_leaves_out(answers: Answers, text: str) -> None:
    assert words.cost(answers) == text


@pytest.mark.parametrize(("ms", "text"), [(None, "-"), (12.3, "12 ms"), (2345.0, "2.3 s")])
def test_durations(ms: float | None, text: str) -> None:
    assert words.duration(ms) == text
