"""docs/figures.md has every goal of every benchmark, and all that it names exists."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench import BENCHMARKS, figures
from bench.goals import Goal, find_figures, format_value
from bench.harness import describe_machine

BY_HAND = figures.read_by_hand()
MEASURED = figures.read_measured()
ROWS = list(figures.list_rows(figures.list_goals(), MEASURED, BY_HAND))


def test_every_benchmark_is_run_and_has_goals() -> None:
    files = {path.stem for path in (figures.ROOT / "bench").glob("*.py")}
    modules = [name for name in files if re.search(r"^GOALS\b", _read(name), re.MULTILINE)]
    assert sorted(modules) == sorted(BENCHMARKS)
    assert all(figures.list_goals().values())
    # What is written has its goals.
    for name in modules:
        assert f'write_results("{name}", GOALS, ' in _read(name)


def _read(module: str) -> str:
    return (figures.ROOT / f"bench/{module}.py").read_text()


def test_a_name_stands_for_one_figure() -> None:
    assert set(Counter(row.name for row in ROWS).values()) == {1}


def test_the_page_is_what_the_generator_writes() -> None:
    """`python -m bench.figures` writes it again after a change of a goal or of a reason."""
    assert figures.PAGE.read_text() == figures.render(MEASURED, BY_HAND)


def test_each_figure_that_is_short_has_a_reason() -> None:
    explained = {name for reason in BY_HAND["short"] for name in reason["figures"]}
    assert not {row.name for row in ROWS if row.reached is False} - explained
    assert explained <= {row.name for row in ROWS}, "no such figure"


@pytest.mark.parametrize("place", [entry["test"] for entry in BY_HAND["tests"]])
def test_each_test_exists(place: str) -> None:
    path, _, name = place.partition("::")
    tree = ast.parse((figures.ROOT / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize("command", sorted({entry["command"] for entry in BY_HAND["commands"]}))
def test_each_command_exists(command: str) -> None:
    program, *words = command.split()
    if program == "make":
        assert re.search(rf"^{words[0]}:", (figures.ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[:1] == ["-m"]:
        assert importlib.util.find_spec(words[1])
    else:
        assert (figures.ROOT / program).exists() or shutil.which(program)


def test_a_figure_that_was_not_measured_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    goals = (
        Goal("fast", ("calls", "fast"), ">=", 2, "x"),
        Goal("small", ("calls", "small"), "<=", 0.05, "%"),
        Goal("never", ("workers", "never"), "<=", 1.5),
    )
    found = find_figures(goals, {"calls": {"fast": 1234.5, "small": 0.061}})
    assert [figure["value"] for figure in found] == [1234.5, 0.061, None]
    values = {figure["figure"]: figure["value"] for figure in found}
    run = {"date": "2026-01-02 03:04", "commit": "abc", "seconds": 90, "values": values}
    measured: dict[str, Any] = {"router": {**run, "machine": describe_machine()}}
    monkeypatch.setattr(figures, "list_goals", lambda: {"router": goals})
    reason = {"figures": ["router: small"], "bound": "The bound.", "tried": "A trial."}
    page = figures.render(measured, {"short": [reason], "commands": [], "tests": []})
    assert "| router: fast | ≥ 2 x | 1,234 x | yes | `make bench BENCH=router` |" in page
    assert "| router: small | ≤ 5 % | 6.1 % | **no** |" in page
    assert "| router: never | ≤ 1.5 | not measured |  |" in page
    assert "- router: small: 6.1 %, goal ≤ 5 %\n\n**What bounds it.** The bound." in page
    assert "1 of 3 goals are reached, 1 are not, 1 were not measured." in page
    assert "| router | 1.5 | 2026-01-02 03:04 | abc |" in page


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0, "", "0"), (10_000, "", "10,000"), (1234.5, "x", "1,234 x"), (0.0612, "%", "6.12 %"),
     (float("inf"), "s", "inf s")],
)  # fmt: skip
def test_values_are_short(value: float, unit: str, text: str) -> None:
    assert format_value(value, unit) == text


def test_results_replace_what_was_measured_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    kept = {"store": {"date": "2026-01-01 00:00"}, "hf": {"date": "2026-01-03 00:00"}}
    text = (
        '{"date": "2026-01-02 00:00", "commit": "b", "seconds": 1, "machine": {}, "results": {},'
        ' "goals": [{"figure": "small", "value": 2, "sign": "<=", "goal": 3, "unit": ""}]}'
    )
    for name in ("store", "hf"):
        (tmp_path / f"{name}.json").write_text(text)
    found = figures.update_measured(kept)
    assert found["store"]["values"] == {"small": 2}
    assert found["hf"] == kept["hf"]
