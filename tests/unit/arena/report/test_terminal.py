"""The tables in a terminal, and the formats of numbers."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from arena.report import formatting
from arena.report.embed import Report
from arena.report.fitting import break_name
from arena.report.terminal import print_tables
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


NAMES = ("openrouter_someone/a-model-name", "hf_other", "litellm_azure/eastus/gpt-deployment")
GAMES = ("tic_tac_toe", "kuhn_poker", "breakthrough(columns=6,rows=6)")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Report:
    games = [
        play(game, pair, number, lambda row: [asked(row)])
        for game in GAMES
        for pair in permutations(NAMES, 2)
        for number in range(2)
    ]
    return Report.load(write(tmp_path_factory.mktemp("several") / "r.db", games))


def lines(report: Report, width: int) -> list[str]:
    out = io.StringIO()
    print_tables(report, Console(file=out, width=width, force_terminal=False))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 100, 132, 200])
def test_tables_fit_and_names_break_at_their_punctuation_only(several: Report, width: int) -> None:
    """In 80 columns, kuhn_poker has been "kuhn_p" and "oker"."""
    shown = lines(several, width)
    assert max(map(len, shown)) <= width
    words = {word for line in shown for word in line.split()}
    pieces = {piece for name in (*NAMES, *GAMES) for piece in re.split(r"(?<=[/(,:])", name)}
    for piece in pieces:
        assert any(piece in word for word in words), piece
    cut = {
        name[:end]
        for name in ("kuhn_poker", "tic_tac_toe", "hf_other")
        for end in range(3, len(name))
    }
    assert not cut & words


def test_a_narrow_terminal_shows_fewer_columns_and_names_the_others(several: Report) -> None:
    def columns(shown: list[str], title: str) -> set[str]:
        return set(re.split(r"  +", shown[shown.index(title) + 2].strip()))

    narrow, wide = lines(several, 80), lines(several, 1000)
    hidden = set()
    for line in " ".join(narrow).split("Not shown: ")[1:]:
        hidden |= set(line.split(" (use")[0].split(", "))
    for title in ("Ratings", "Wins, draws, losses", "Calls of models"):
        assert columns(wide, title) - columns(narrow, title) <= hidden
        assert columns(narrow, title) <= columns(wide, title)
    assert "per move" in hidden
    assert not [line for line in wide if "Not shown" in line]
    # No figure is broken: all of them are those of the wide table.
    numbers = re.compile(r"[($]?\b\d[-\d.,]*\b\)?")
    assert not Counter(numbers.findall("\n".join(narrow))) - Counter(
        numbers.findall("\n".join(wide))
    )


def test_every_column_that_needs_it_has_a_sentence(several: Report) -> None:
    shown = " ".join(lines(several, 1000))
    for table in several.tables.tables.values():
        for column in table.columns:
            if column.explain and not table.page_only:
                assert f"{column.name}: {column.explain}." in shown


def test_a_long_name_without_punctuation_loses_its_middle(tmp_path: Path) -> None:
    name = "hf_" + "x" * 60 + "end"
    games = [play("tic_tac_toe", (name, "random"), number) for number in range(2)]
    shown = lines(Report.load(write(tmp_path / "r.db", games)), 80)
    assert max(map(len, shown)) <= 80
    assert any(re.match(r" hf_x+…x*end  ", line) for line in shown)


def test_wide_characters_take_two_places(tmp_path: Path) -> None:
    """Only the width of the terminal limits the columns: none may be cut or wrapped."""
    names = ["模型" * 12 + "甲", "模型" * 12 + "乙"]
    games = [play("tic_tac_toe", names, number) for number in range(2)]
    shown = lines(Report.load(write(tmp_path / "r.db", games)), 80)
    assert max(map(cell_len, shown)) <= 80
    assert sum("…" in line and "甲" in line and "乙" in line for line in shown) == 1
    assert any(re.match(r" 模[型模]+…[型模]*甲 +1\d\d\d ", line) for line in shown)


@pytest.mark.parametrize(
    ("name", "limit", "lines"),
    [
        ("hf_smollm2-135m-instruct", 24, ["hf_smollm2-135m-instruct"]),
        ("hf_smollm2-135m-instruct", 20, ["hf_smollm2-135m-", "instruct"]),
        ("openrouter_a/b-model", 14, ["openrouter_a/", "b-model"]),
        ("a" * 9 + "b" * 9, 9, ["aaaa…bbbb"]),
        ("模型" * 9, 9, ["模型…模型"]),
        ("模型-模型-模型", 9, ["模型-", "模型-模型"]),
    ],
)
def test_names_break_at_the_best_place(name: str, limit: int, lines: list[str]) -> None:
    assert break_name(name, limit).splitlines() == lines


def test_local_models_cost_nothing(tmp_path: Path) -> None:
    """They have been of unknown cost; a hosted model without a price still is."""
    for name, cost in (("hf_small", "$0.00"), ("vllm_big", "$0.00"), ("litellm_x/y", "unknown")):
        games = [
            play("tic_tac_toe", (name, "random"), 0, lambda row: [asked(row, cost_picousd=None)])
        ]
        shown = " ".join(lines(Report.load(write(tmp_path / f"{name[:3]}.db", games)), 120))
        assert f"{cost} cost" in shown


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
