"""Expected returns and exploitability from stored moves, compared with OpenSpiel."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pyspiel
import pytest
from open_spiel.python.algorithms import expected_game_score, exploitability
from open_spiel.python.policy import Policy, UniformRandomPolicy

from arena.games import expectation
from arena.games.expectation import MAX_POSITIONS, Observed, expect_returns
from arena.games.sandbox import Sandbox
from arena.games.scale import GameScale
from arena.report.exact import Exact, find_exact, find_probabilities
from arena.report.load import open_results
from arena.results.rows import EpisodeRow, ExperimentRow, ModelRow, MoveRow
from arena.results.store import Store
from tests.support.random_play import Played

SETTINGS = {"reply": "score", "score_pick": "sample", "temperature": 1.0}
SCORED = ModelRow("hf_a", "llm", "hf_a", json.dumps(SETTINGS))
DICE = ModelRow("dice", "random", None, "{}")


class Softmax(Policy):
    """A made-up model: the score of an action depends on what the seat knows."""

    def __init__(self, game: pyspiel.Game) -> None:
        super().__init__(game, [0, 1])

    def scores(self, state: pyspiel.State, seat: int) -> dict[int, float]:
        rng = random.Random(state.information_state_string(seat))  # noqa: S311 - repeatable
        return {action: rng.uniform(-3, 0) for action in state.legal_actions(seat)}

    def action_probabilities(self, state: Any, player_id: int | None = None) -> dict[int, float]:
        seat = state.current_player() if player_id is None else player_id
        weights = {a: pow(2.718281828459045, s) for a, s in self.scores(state, seat).items()}
        return {action: weight / sum(weights.values()) for action, weight in weights.items()}


def play(name: str, agents: Sequence[str], number: int) -> Played:
    """An episode whose deal and moves are drawn as in a run."""
    game = pyspiel.load_game(name)
    model, state = Softmax(game), game.new_initial_state()
    chance, rng = random.Random(number), random.Random(f"{agents}{number}")  # noqa: S311
    episode, moves, ply = f"{name}/{number}/{agents}", [], 0
    while not state.is_terminal():
        if state.is_chance_node():
            actions, weights = zip(*state.chance_outcomes(), strict=True)
            (action,) = chance.choices(actions, weights)
            moves.append(MoveRow(episode, ply, -1, 0, "ok", action=action))
        else:
            seat = state.current_player()
            legal = tuple((a, state.action_to_string(seat, a)) for a in state.legal_actions())
            scored = agents[seat] == "hf_a"
            scores = model.scores(state, seat)
            weights = [pow(2.718281828459045, scores[a]) if scored else 1.0 for a, _ in legal]
            (action,) = rng.choices([a for a, _ in legal], weights)
            reply = json.dumps({text: scores[a] for a, text in legal}) if scored else None
            moves.append(
                MoveRow(
                    episode, ply, seat, 0, "ok", agent=agents[seat], action=action,
                    legal_actions=legal, reply=reply, model="hf_a" if scored else None,
                )
            )  # fmt: skip
        state.apply_action(action)
        ply += 1
    returns = tuple(map(float, state.returns()))
    row = EpisodeRow(episode, name, number, tuple(agents), number, "finished", ply, returns=returns)
    return Played(row, tuple(moves))


def exact(path: Path, played: Sequence[Played], players: Sequence[ModelRow]) -> Exact:
    with Store(path, ExperimentRow("test", "{}"), players) as store:
        for found in played:
            store.put_episode(found.row, found.moves)
    sandbox = Sandbox()
    try:
        with open_results(path) as results:
            scales = {row.game: GameScale(True, -13, 13, True) for row in results.first(None)}
            return find_exact(results, scales, sandbox)
    finally:
        sandbox.close()


def test_a_game_whose_positions_are_all_known_needs_no_sample(tmp_path: Path) -> None:
    """Kuhn poker has six information states in each seat: some episodes show all of them."""
    played = [
        play("kuhn_poker", pair, number)
        for number in range(60)
        for pair in permutations(("hf_a", "dice"))
    ]
    found = exact(tmp_path / "r.db", played, [SCORED, DICE])
    game = pyspiel.load_game("kuhn_poker")
    model, dice = Softmax(game), UniformRandomPolicy(game)
    root = game.new_initial_state()
    first = expected_game_score.policy_value(root, [model, dice])[0]
    second = expected_game_score.policy_value(root, [dice, model])[1]
    (own,) = [row for row in found.returns if row.player == "hf_a"]
    assert own.value.value == pytest.approx((first + second) / 2)
    assert (own.estimator, own.value.low, own.value.high) == ("exact", *[own.value.value] * 2)
    assert own.against == ("dice",)
    assert found.exploitability == {
        ("kuhn_poker", "hf_a"): pytest.approx(exploitability.exploitability(game, model)),
        ("kuhn_poker", "dice"): pytest.approx(exploitability.exploitability(game, dice)),
    }


def test_missing_positions_leave_the_sampled_value(tmp_path: Path) -> None:
    """The model's first decisions are not stored."""
    games = [play("kuhn_poker", ("hf_a", "dice"), number) for number in range(40)]
    cut = [
        Played(
            found.row,
            tuple(replace(move, reply=None) if move.ply == 2 else move for move in found.moves),
        )
        for found in games
    ]
    whole = exact(tmp_path / "whole.db", games, [SCORED, DICE])
    assert {row.player for row in whole.returns} == {"hf_a", "dice"}
    assert exact(tmp_path / "cut.db", cut, [SCORED, DICE]).returns == []


def test_unknown_players_are_left_out(tmp_path: Path) -> None:
    person = ModelRow("me", "human", None, "{}")
    games = [play("kuhn_poker", ("me", "dice"), number) for number in range(3)]
    assert exact(tmp_path / "r.db", games, [person, DICE]) == Exact([], {})


def test_the_deal_of_an_expectation_is_that_of_the_episodes() -> None:
    """Given the deal, the expectation of fixed moves is the episode that was played."""
    for number in range(20):
        episode = play("kuhn_poker", ("dice", "dice"), number)
        plies = [{move.seat: move.action} for move in episode.moves]
        known: Mapping[Any, Any] = {
            (ply, seat): {action: 1.0}
            for ply, actions in enumerate(plies)
            for seat, action in actions.items()
            if seat >= 0
        }
        observed = Observed(("a", "b"), plies, known)  # type: ignore[arg-type]
        found, _ = expect_returns(
            "kuhn_poker", [observed], frozenset(), [("a", "b")], [episode.row.seed]
        )
        assert found["a", "b"].exact is None
        assert found["a", "b"].by_deal == (episode.row.returns,)


def test_a_large_game_is_expected_given_its_deals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expectation, "MAX_POSITIONS", 2_000)
    deals = list(range(120))
    found, _ = expect_returns("leduc_poker", [], frozenset({"dice"}), [("dice", "dice")], deals)
    values = found["dice", "dice"].by_deal
    assert values is not None
    assert len(values) == 120
    monkeypatch.setattr(expectation, "MAX_POSITIONS", MAX_POSITIONS)
    assert len(values) * 100 < expectation.MAX_TOTAL  # the deals' trees are small
    whole, _ = expect_returns("leduc_poker", [], frozenset({"dice"}), [("dice", "dice")], [])
    truth = whole["dice", "dice"].exact
    assert truth is not None
    mean = sum(value[0] for value in values) / len(values)
    assert mean == pytest.approx(truth[0], abs=0.6)
    # The luck of the moves is gone: what is left is the luck of the deal.
    assert sum((value[0] - mean) ** 2 for value in values) / len(values) < 12


@pytest.mark.parametrize(
    ("settings", "reply", "expected"),
    [
        ({"score_pick": "sample"}, '{"a": 0.0, "b": 0.0}', {1: 0.5, 2: 0.5}),
        ({"score_pick": "sample", "temperature": 0}, '{"a": 0.0, "b": 0.0}', {2: 1.0}),
        ({"score_pick": "sample"}, '{"a": 0.0, "b": -Infinity}', {1: 1.0, 2: 0.0}),
        ({"score_pick": "sample"}, '{"a": 0.0}', None),
        ({"score_pick": "sample"}, "no JSON", None),
        ({}, '{"a": -1, "b": -0.5}', {2: 1.0}),
    ],
)
def test_probabilities_of_a_stored_move(
    settings: dict[str, Any], reply: str, expected: dict[int, float] | None
) -> None:
    move = MoveRow(
        "e", 0, 0, 0, "ok", agent="hf_a", action=2, reply=reply, legal_actions=((1, "a"), (2, "b"))
    )
    player = replace(SCORED, config=json.dumps({"reply": "score", **settings}))
    assert find_probabilities(move, player) == expected
