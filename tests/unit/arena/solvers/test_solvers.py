"""Solvers know the best moves of positions that people know, and the report shows them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyspiel
import pytest

from arena.export.tables import export_tables
from arena.games.disguise import NUMBERINGS, ORIGINALS
from arena.report.count import summarise
from arena.report.embed import Report
from arena.report.layout import to_json
from arena.report.load import open_results
from arena.report.tables import make_tables
from arena.results.rows import ExperimentRow, ModelRow
from arena.results.store import Store
from arena.solvers import (
    LIMITS,
    Judged,
    SolverMissing,
    Unreached,
    chess,
    connect_four,
    find_original,
    load_solver,
)
from arena.solvers.episodes import judge_actions
from arena.solvers.equilibrium import EquilibriumSolver
from tests.support.game_turns import playout
from tests.support.random_play import play


def test_a_slow_solver_judges_only_the_first_moves_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "connect_four", 10)
    path = tmp_path / "r.sqlite"
    players = [ModelRow(name, "random", None, "{}") for name in ("a", "b")]
    played = [play("connect_four", ("a", "b"), number) for number in range(2)]
    assert len(played[0].moves) > 5
    with Store(path, ExperimentRow("test", "{}"), players) as store:
        for one in played:
            store.put_episode(one.row, one.moves)
    with open_results(path) as results:
        judged = summarise(results).judged
    assert sum(map(len, judged.values())) == 10


def judge(game: str, moves: Sequence[str]) -> dict[str, tuple[float, tuple[str, ...]]]:
    """Judge the last move of each player in a game without chance: regret and best, by name."""
    state = pyspiel.load_game(game).new_initial_state()
    plies = []
    for move in moves:
        seat, action = state.current_player(), state.string_to_action(move)
        plies.append({seat: action})
        state.apply_action(action)
    wanted = frozenset((ply, seat) for ply, actions in enumerate(plies) for seat in actions)
    found = judge_actions(game, plies, wanted)
    assert found.problem == ""
    return {moves[ply]: (judged.regret, judged.best) for (ply, _), judged in found.moves.items()}


def test_tic_tac_toe() -> None:
    found = judge("tic_tac_toe", ["x(0,0)", "o(0,1)", "x(1,1)", "o(0,2)", "x(2,2)"])
    assert found["x(0,0)"][0] == 0
    assert found["o(0,1)"] == (1, ("o(1,1)",))  # only the centre draws
    assert found["o(0,2)"][0] == 0  # lost in any case
    assert found["x(2,2)"][0] == 0


def test_connect_four() -> None:
    pytest.importorskip("bitbully", reason="needs `make setup WITH=solvers`")
    found = judge("connect_four", ["x3", "o3", "x2", "o0", "x1"])
    assert found["x3"] == (0, ("x3",))  # the centre wins
    assert found["x2"] == (2, ("x3",))  # now the rival wins
    assert found["o0"] == (2, ("o1", "o4"))


@pytest.mark.skipif(
    not any(map(shutil.which, ("stockfish", "/usr/games/stockfish"))),
    reason="needs Stockfish: `apt-get install stockfish`",
)
def test_chess() -> None:
    found = judge("chess", ["e4", "e5", "Qh5", "Ke7", "Qxe5#"])
    assert found["e4"][0] == 0
    assert found["Ke7"][0] > 9  # it allows a mate
    assert found["Qxe5#"] == (0, ("Qxe5#",))
    assert found == judge("chess", ["e4", "e5", "Qh5", "Ke7", "Qxe5#"])


@pytest.mark.parametrize(
    ("deal", "actions", "regret", "best"),
    [
        ((2, 0), (0, 1, 0), 3.0, ("Bet",)),  # a king folds: it loses 1 and could win 2
        ((0, 2), (0, 1, 1), 1.0, ("Pass",)),  # a jack calls: it loses 2 and not 1
        ((0, 2), (0, 1, 0), 0.0, ("Pass",)),
    ],
)
def test_kuhn_poker(
    deal: tuple[int, int], actions: tuple[int, ...], regret: float, best: tuple[str, ...]
) -> None:
    """The last action is judged by the cards of its own seat."""
    plies = [{-1: card} for card in deal] + [{i % 2: a} for i, a in enumerate(actions)]
    last = (len(plies) - 1, (len(actions) - 1) % 2)
    found = judge_actions("kuhn_poker", plies, frozenset([last])).moves
    assert found[last].best == best
    assert found[last].regret == pytest.approx(regret, abs=0.02)


def test_an_equilibrium_has_no_regret_where_it_leads() -> None:
    """The action that CFR+ takes most brings almost as much as any other; elsewhere none counts.

    Regrets count as much as the rival leads the game there.
    """
    for name in ("kuhn_poker", "leduc_poker"):
        solver = load_solver(name)
        assert isinstance(solver, EquilibriumSolver)
        judged = left_out = 0
        for turn in (turn for seed in range(200) for turn in playout(name, seed)):
            key = turn.state.raw.information_state_string()
            policy = dict(solver._policy[key])
            likely = max(policy, key=policy.__getitem__)
            try:
                found = solver.judge(turn.state.raw, likely)
            except Unreached:
                left_out += 1
                continue
            assert found is not None
            assert found.regret * solver._weights[key] < 0.02
            judged += 1
        assert judged > 300
        # All of Kuhn poker is reached: no action of its equilibrium has a share of 0 everywhere.
        assert (left_out == 0) == (name == "kuhn_poker")


def test_moves_that_equilibrium_play_does_not_reach_are_counted_and_not_judged(
    tmp_path: Path,
) -> None:
    players = [ModelRow(name, "random", None, "{}") for name in ("a", "b")]
    played = [play("leduc_poker", ("a", "b"), number) for number in range(30)]
    with Store(tmp_path / "r.sqlite", ExperimentRow("test", "{}"), players) as store:
        for one in played:
            store.put_episode(one.row, one.moves)
    with open_results(tmp_path / "r.sqlite") as results:
        summary = summarise(results)
    moves = sum(move.agent is not None for one in played for move in one.moves)
    judged = sum(quality.moves for quality in summary.quality.values())
    assert judged + summary.unreached["leduc_poker"] == moves
    assert any("equilibrium play does not reach" in note for note in make_tables(summary).notes)


@pytest.mark.parametrize(
    "name", ["arena_fifteen", "arena_seals", "arena_twin_stones", "arena_towers", "arena_court"]
)
def test_a_disguise_is_judged_as_its_original(name: str) -> None:
    original, number = ORIGINALS[name], NUMBERINGS[name].to_original
    assert find_original(name) == original
    try:
        solvers = load_solver(original), load_solver(name)
    except SolverMissing as missing:
        pytest.skip(str(missing))
    compared = 0
    for turn in playout(name, 3, most=5):
        plain = pyspiel.load_game(original).new_initial_state()
        for played in turn.state.history:
            plain.apply_action(played.action if played.seat < 0 else number(played.action))
        action = turn.legal[0].action
        one, two = solvers[0].judge(plain, number(action)), solvers[1].judge(turn.state.raw, action)
        assert one is not None
        assert two is not None
        assert one.regret == two.regret
        assert {*one.best} == {number(best) for best in two.best}
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize(
    ("module", "game", "fix"),
    [
        (connect_four, "connect_four", "WITH=solvers"),
        (chess, "chess", "apt-get install"),
    ],
)
def test_a_missing_solver_says_how_to_install_it(
    module: object, game: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitbully", None)
    monkeypatch.setattr(chess, "_PLACES", ("no-such-engine",))
    with pytest.raises(SolverMissing, match=fix):
        module.load(pyspiel.load_game(game))  # type: ignore[attr-defined]


def test_games_without_a_solver() -> None:
    assert load_solver("nim") is None
    assert load_solver("kuhn_poker(players=3)") is None
    assert load_solver("connect_four(rows=5)") is None
    assert judge_actions("nim", [{0: 0}], frozenset([(0, 0)])) == ({}, 0, "")
    assert Judged(0.0, (1,)).best == (1,)


def test_the_report_and_the_export_have_the_quality_of_moves(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    players = [ModelRow(name, "random", None, "{}") for name in ("a", "b")]
    played = [play("tic_tac_toe", ("a", "b"), number) for number in range(8)]
    with Store(path, ExperimentRow("test", "{}"), players) as store:
        for one in played:
            store.put_episode(one.row, one.moves)
    report = Report.load(path)
    rows = {row["player"]: row for row in to_json(report.tables)["tables"]["quality"]}
    assert rows["a"]["moves"] == sum(move.seat == 0 for one in played for move in one.moves)
    assert 0 < rows["a"]["best"]["share"] < 1
    assert rows["b"]["regret"]["mean"] > 0
    low, high = rows["b"]["regret"]["interval"]
    assert low < rows["b"]["regret"]["mean"] < high
    export_tables(path, tmp_path / "out", "csv")
    text = (tmp_path / "out" / "quality.csv").read_text()
    lines = list(csv.DictReader(text.splitlines()))
    assert len(lines) == sum(len(one.moves) for one in played)
    assert all(json.loads(line["best"]) for line in lines)
    regrets = [float(line["regret"]) for line in lines if line["agent"] == "a"]
    assert sum(regret == 0 for regret in regrets) == rows["a"]["best"]["count"]
