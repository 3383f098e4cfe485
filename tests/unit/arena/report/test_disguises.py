"""The report compares a player's results in a game and in its disguise."""

from __future__ import annotations

from pathlib import Path

import pytest

from arena.report.embed import Report
from arena.report.layout import to_json
from arena.results.rows import EpisodeRow, ExperimentRow, ModelRow, MoveRow
from arena.results.store import Store
from arena.statistics.intervals import Mean, subtract


def test_original_minus_disguise(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    players = [ModelRow(name, "random", None, "{}") for name in ("a", "b")]
    with Store(path, ExperimentRow("test", "{}"), players) as store:
        for game, wins in (("tic_tac_toe", 9), ("arena_fifteen", 3), ("nim", 5)):
            for number in range(10):
                returns = (1.0, -1.0) if number < wins else (-1.0, 1.0)
                row = EpisodeRow(
                    f"{game}{number}", game, number, ("a", "b"), number, "finished", 1,
                    returns=returns,
                )  # fmt: skip
                store.put_episode(row, [MoveRow(row.episode, 0, 0, 0, "ok", "a", action=number)])
    rows = to_json(Report.load(path).tables)["tables"]["disguises"]
    assert [(row["player"], row["game"], row["disguise"]) for row in rows] == [
        ("a", "tic_tac_toe", "arena_fifteen"), ("b", "tic_tac_toe", "arena_fifteen"),
    ]  # fmt: skip
    assert rows[0]["difference"]["mean"] == pytest.approx(0.6)
    low, high = rows[0]["difference"]["interval"]
    assert 0 < low < 0.6 < high < 1
    assert rows[1]["difference"]["mean"] == pytest.approx(-0.6)


def test_the_interval_of_a_difference() -> None:
    first, second = Mean(0.9, 0.6, 1.0, 10), Mean(0.5, 0.1, 0.9, 8)
    assert subtract(first, second)[:3] == pytest.approx((0.4, -0.1, 0.4 + 0.17**0.5))
