"""Corrected returns have the expectation of the sampled ones, and less luck."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pyspiel
import pytest

from arena.games import correction
from arena.games.correction import correct_returns
from arena.games.expectation import Observed
from arena.statistics.intervals import student_interval

#: How often the unknown player takes its first legal action, if the game lets it choose.
_BOLD = 0.8
DICE = frozenset({"dice"})


def play(name: str, agents: Sequence[str], rng: random.Random) -> tuple[Observed, float]:
    """An episode, and the return of the unknown player."""
    state, plies = pyspiel.load_game(name).new_initial_state(), []
    while not state.is_terminal():
        if state.is_chance_node():
            actions, weights = zip(*state.chance_outcomes(), strict=True)
            plies.append({-1: rng.choices(actions, weights)[0]})
        else:
            movers = range(2) if state.is_simultaneous_node() else [state.current_player()]
            plies.append(
                {seat: draw(state.legal_actions(seat), agents[seat], rng) for seat in movers}
            )
        if state.is_simultaneous_node():
            state.apply_actions(list(plies[-1].values()))
        else:
            state.apply_action(*plies[-1].values())
    return Observed(tuple(agents), plies, {}), state.returns()[agents.index("model")]


def draw(legal: Sequence[int], agent: str, rng: random.Random) -> int:
    if agent == "model" and rng.random() < _BOLD:
        return legal[0]
    return rng.choice(legal)


def expect(name: str, agents: Sequence[str]) -> float:
    """The expected return of the unknown player, over all lines."""

    def value(state: pyspiel.State) -> float:
        if state.is_terminal():
            return float(state.returns()[agents.index("model")])
        if state.is_chance_node():
            return sum(p * value(state.child(a)) for a, p in state.chance_outcomes())
        if state.is_simultaneous_node():
            first, second = (weigh(state.legal_actions(seat), agents[seat]) for seat in range(2))
            total = 0.0
            for a, p in first.items():
                for b, q in second.items():
                    child = state.clone()
                    child.apply_actions([a, b])
                    total += p * q * value(child)
            return total
        seat = state.current_player()
        moves = weigh(state.legal_actions(), agents[seat])
        return sum(p * value(state.child(a)) for a, p in moves.items())

    return value(pyspiel.load_game(name).new_initial_state())


def weigh(legal: Sequence[int], agent: str) -> dict[int, float]:
    bold = _BOLD if agent == "model" else 0.0
    return {a: (1 - bold) / len(legal) + bold * (a == legal[0]) for a in legal}


@pytest.mark.parametrize(
    ("name", "least"), [("kuhn_poker", 1.5), ("nim(pile_sizes=2;3)", 1.5), ("matrix_pd", 1.5)]
)
def test_a_corrected_mean_is_unbiased_and_its_interval_covers(name: str, least: float) -> None:
    """Samples of 30 deals with swapped seats. The model's probabilities are not known."""
    rng, orders = random.Random(7), (("model", "dice"), ("dice", "model"))  # noqa: S311 - no secret
    truth = sum(expect(name, agents) for agents in orders) / 2
    samples, deals = 200, 30
    games = [play(name, agents, rng) for _ in range(samples * deals) for agents in orders]
    added = correct_returns(name, [observed for observed, _ in games], DICE)
    raw, corrected = [], []
    for number in range(samples * deals):
        pair = range(2 * number, 2 * number + 2)
        raw.append(sum(games[one][1] for one in pair) / 2)
        corrected.append(
            sum(games[one][1] + added[one][games[one][0].agents.index("model")] for one in pair) / 2
        )
    whole = student_interval(corrected)
    error = (whole.high - whole.low) / 4
    assert abs(whole.value - truth) < 4 * error
    found = [student_interval(corrected[at * deals : (at + 1) * deals]) for at in range(samples)]
    covered = sum(one.low <= truth <= one.high for one in found) / samples
    assert covered >= 0.95 - 2 * (0.95 * 0.05 / samples) ** 0.5
    sampled = student_interval(raw)
    assert (sampled.high - sampled.low) ** 2 > least * (whole.high - whole.low) ** 2


def test_a_wrong_probability_would_bias_it() -> None:
    """What is known must be what was played: this is what the test above can see."""
    rng = random.Random(7)  # noqa: S311 - no secret
    games = [play("kuhn_poker", ("model", "dice"), rng) for _ in range(3_000)]
    added = correct_returns("kuhn_poker", [one for one, _ in games], frozenset({"dice", "model"}))
    values = [value + more[0] for (_, value), more in zip(games, added, strict=True)]
    found = student_interval(values)
    assert not found.low <= expect("kuhn_poker", ("model", "dice")) <= found.high


def test_a_game_with_too_many_positions_is_not_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    episode, _ = play("kuhn_poker", ("model", "dice"), random.Random(1))  # noqa: S311 - no secret
    assert correct_returns("kuhn_poker", [episode], DICE)
    monkeypatch.setattr(correction, "MAX_POSITIONS", 10)
    assert correct_returns("kuhn_poker", [episode], DICE) == []
