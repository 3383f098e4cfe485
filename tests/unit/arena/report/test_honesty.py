"""What a report must not hide: forfeits, failures, repeated games, and games without winners."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arena.report.embed import Report
from arena.report.layout import to_json
from arena.report.units import is_deterministic
from arena.results.rows import ExperimentRow, ModelRow
from arena.results.store import Store
from tests.support.random_play import Played, asked, play, write


def tables(path: Path) -> dict[str, Any]:
    """The tables and notes, as they leave `arena report --json`."""
    document: dict[str, Any] = json.loads(json.dumps(to_json(Report.load(path).tables)))
    return {**document["tables"], "notes": " ".join(document["notes"])}


def row(rows: list[dict[str, Any]], **values: str) -> dict[str, Any]:
    (found,) = [one for one in rows if values.items() <= one.items()]
    return found


def forfeit(found: Played, seat: int) -> Played:
    return Played(
        replace(found.row, status="forfeited", loser=seat, returns=None, reason="no legal answer"),
        found.moves[:1],
    )


def test_forfeits_are_beside_the_mean_return(tmp_path: Path) -> None:
    """1 win and 9 forfeits have been +1.00."""
    games = [play("kuhn_poker", ("hf_one", "random"), number) for number in range(40)]
    won = next(found for found in games if found.row.returns == (1.0, -1.0))
    others = [found for found in games if found is not won][:9]
    path = write(tmp_path / "r.db", [won, *(forfeit(found, 0) for found in others)])
    found = tables(path)
    own = row(found["returns"], player="hf_one")
    assert own["mean return"]["mean"] == 1.0
    assert own["with forfeits"]["mean"] == pytest.approx((1 - 9 * 2) / 10)
    assert (own["episodes"], own["forfeits"]) == (1, 9)
    # The other player earned nothing in the forfeited games, and lost the played one.
    other = row(found["returns"], player="random")
    assert other["mean return"]["mean"] == other["with forfeits"]["mean"] == -1.0
    assert other["forfeited to"] == 9
    score = row(found["outcomes"], player="hf_one")["score"]
    assert score["mean"] == pytest.approx(0.1)
    assert score["interval"][1] < 0.5


def test_the_luck_of_deals_and_of_a_random_player_is_corrected(tmp_path: Path) -> None:
    games = [
        play("kuhn_poker", pair, number)
        for number in range(12)
        for pair in (("hf_one", "random"), ("random", "hf_one"))
    ]
    tables_ = tables(write(tmp_path / "r.db", games))
    own = row(tables_["exact"], player="hf_one")
    assert (own["estimator"], own["deals"]) == ("corrected", 12)
    low, high = own["expected return"]["interval"]
    sampled = row(tables_["returns"], player="hf_one")["mean return"]["interval"]
    assert high - low < sampled[1] - sampled[0]
    # A forfeit ends what the correction counts on, and few deals say too little.
    for played in ([*games[:-1], forfeit(games[-1], 1)], games[:18]):
        path = write(tmp_path / f"{len(played)}.db", played)
        assert "exact" not in tables(path)


def test_failed_episodes_have_a_column_in_which_they_are_losses(tmp_path: Path) -> None:
    games = [play("tic_tac_toe", ("hf_one", "random"), number) for number in range(4)]
    down = [replace(found.row, status="failed", reason="UNAVAILABLE x") for found in games[2:]]
    path = write(tmp_path / "r.db", [*games[:2], *(Played(failed, ()) for failed in down)])
    own = row(tables(path)["outcomes"], player="hf_one")
    assert own["failed"] == 2
    assert own["score_if_failed_is_lost"]["mean"] == own["score"]["mean"] / 2


def test_nobody_wins_a_game_that_is_not_zero_sum(tmp_path: Path) -> None:
    """A defector with five points more than a cooperator has been rated 1708."""
    games = [play("matrix_pd", ("hf_one", "hf_two"), number) for number in range(6)]
    games += [play("matrix_rps", ("hf_one", "hf_two"), number) for number in range(6)]
    path = write(tmp_path / "r.db", games)
    found = tables(path)
    assert {entry["game"] for entry in found["ratings"]} <= {None, "matrix_rps"}
    assert row(found["outcomes"], player="hf_one", game="matrix_rps")["games"] == 6
    assert [entry["games"] for entry in found["outcomes"] if entry["game"] is None] == [6, 6]
    returns = [game.row.returns[0] for game in games[:6] if game.row.returns]
    own = row(found["returns"], game="matrix_pd", player="hf_one")["mean return"]
    assert own["mean"] == pytest.approx(sum(returns) / 6)
    assert 0 <= own["interval"][0] <= own["interval"][1] <= 10  # the game's own bounds
    assert "matrix_pd" in found["notes"]
    only = tables(write(tmp_path / "pd.db", games[:6]))
    assert not {"ratings", "outcomes", "seats", "differences"} & only.keys()


def test_repeated_courses_are_counted_and_reported(tmp_path: Path) -> None:
    """Six games of random players that went alike stay six, and the report says so."""
    first = play("tic_tac_toe", ("hf_one", "random"), 0)
    copies = [
        Played(
            replace(first.row, episode=f"copy{number}", number=number, seed=number),
            tuple(replace(move, episode=f"copy{number}") for move in first.moves),
        )
        for number in range(6)
    ]
    found = tables(write(tmp_path / "r.db", copies))
    (counted,) = found["units"]
    assert (counted["episodes"], counted["units"], counted["courses"]) == (6, 6, 1)
    assert "took only 1 different course" in found["notes"]


def test_games_of_players_that_always_answer_alike_count_once(tmp_path: Path) -> None:
    first = play("tic_tac_toe", ("hf_one", "solver"), 0, lambda move: [asked(move)])
    copies = [
        Played(
            replace(first.row, episode=f"copy{number}", number=number, seed=number),
            tuple(replace(move, episode=f"copy{number}") for move in first.moves),
        )
        for number in range(6)
    ]
    types = {"hf_one": "minimax", "solver": "minimax"}
    found = tables(write(tmp_path / "r.db", copies, types))
    (counted,) = found["units"]
    assert (counted["episodes"], counted["units"], counted["courses"]) == (6, 1, 1)
    assert row(found["outcomes"], player="solver")["score"]["units"] == 1
    assert "count once" in found["notes"]


@pytest.mark.parametrize(
    ("kind", "model", "settings", "fixed"),
    [
        ("minimax", None, {}, True),
        ("mcts", None, {}, False),
        ("random", None, {}, False),
        ("human", None, {}, False),
        ("llm", "hf_x", {"reply": "score"}, True),
        ("llm", "hf_x", {"reply": "score", "score_pick": "sample"}, False),
        ("llm", "vllm_x", {"reply": "json", "temperature": 0}, True),
        ("llm", "vllm_x", {"reply": "json", "temperature": 0.1}, False),
        ("llm", "hf_x", {"reply": "json"}, False),
        ("llm", "openrouter_x", {"reply": "json", "temperature": 0}, False),
        ("llm", "litellm_x", {"reply": "score"}, False),
    ],
)
def test_only_local_engines_without_draws_always_answer_alike(
    kind: str, model: str | None, settings: dict[str, Any], fixed: bool
) -> None:
    assert is_deterministic(ModelRow("a", kind, model, json.dumps(settings))) == fixed


PLAYERS = [
    ModelRow("hf_one", "llm", "hf_one", "{}"),
    ModelRow("dice", "random", None, "{}"),
    ModelRow("solver", "minimax", None, "{}"),
]


def test_ratings_are_relative_to_the_first_anchor(tmp_path: Path) -> None:
    config = json.dumps({"anchors": {"dice": {"type": "random"}, "solver": {"type": "minimax"}}})
    games = [
        play("tic_tac_toe", pair, number)
        for pair in (("hf_one", "dice"), ("dice", "solver"), ("solver", "hf_one"))
        for number in range(6)
    ]
    rated = {}
    for name, text in (("free", "{}"), ("anchored", config)):
        path = tmp_path / f"{name}.db"
        with Store(path, ExperimentRow("test", text), PLAYERS) as store:
            for found in games:
                store.put_episode(found.row, found.moves)
        rated[name] = {
            entry["player"]: (entry["rating"], entry["95 %"]) for entry in tables(path)["ratings"]
        }
    assert rated["anchored"]["dice"] == (1500, [1500, 1500])
    shift = rated["free"]["solver"][0] - rated["free"]["dice"][0]
    assert rated["anchored"]["solver"][0] == pytest.approx(1500 + shift)


def test_errors_that_cluster_in_episodes_have_a_wide_interval(tmp_path: Path) -> None:
    """Half of the episodes have only illegal answers: by move, the interval would be narrow."""

    def answer(bad: bool) -> Any:
        return lambda move: [asked(move, status="illegal", policy="random") if bad else asked(move)]

    games = [
        play("connect_four", ("hf_one", "hf_one"), number, answer(number % 2 == 0))
        for number in range(6)
    ]
    rate = row(tables(write(tmp_path / "r.db", games))["answers"], player="hf_one")["illegal"]
    assert rate["units"] == 6
    assert rate["mean"] == pytest.approx(0.5)
    assert rate["interval"][1] - rate["interval"][0] > 0.6
