"""Takes the luck that is known out of sampled returns, as a control variate.

At every chance event, and at every move of a player whose probabilities are known, the mean of a
baseline over all outcomes is added, and the baseline of the actual outcome is subtracted. This adds
0 on average, so any baseline leaves the expectation of a return unchanged. Here the baseline is the
value of a position if everybody plays at random from there on, which depends on no episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod

import pyspiel

from arena.games.expectation import MAX_POSITIONS, Observed, Probabilities

_PERFECT = pyspiel.GameType.Information.PERFECT_INFORMATION

#: One value for each seat.
_Values = tuple[float, ...]


class _TooLarge(Exception):
    """The game has too many positions for a baseline."""


def correct_returns(
    game: str, observed: Sequence[Observed], uniform: frozenset[str]
) -> list[_Values]:
    """Return what to add to the returns of each episode, in seat order.

    uniform: agents that play at random. Nothing is returned if the game has too many positions.
    Runs in the sandbox.
    """
    try:
        raw = pyspiel.load_game(game)
        baseline = _Baseline(raw)
        return [_correct(raw, episode, uniform, baseline) for episode in observed]
    except Exception:  # OpenSpiel's games raise errors of many types
        return []


def _correct(
    game: pyspiel.Game, episode: Observed, uniform: frozenset[str], baseline: _Baseline
) -> _Values:
    state = game.new_initial_state()
    total = [0.0] * game.num_players()
    for ply, actions in enumerate(episode.plies):
        # A move whose probabilities are not known stays the one that was played.
        moves = {
            seat: _find_probabilities(state, episode, ply, seat, uniform) or {action: 1.0}
            for seat, action in actions.items()
        }
        child = _play(state, actions)
        if any(len(found) > 1 for found in moves.values()):
            came = baseline.value(child)
            for outcome in product(*(found.items() for found in moves.values())):
                chance = prod(probability for _, probability in outcome)
                other = dict(zip(moves, (action for action, _ in outcome), strict=True))
                values = baseline.value(_play(state, other))
                for seat, value in enumerate(values):
                    total[seat] += chance * (value - came[seat])
        state = child
    return tuple(total)


def _find_probabilities(
    state: pyspiel.State, episode: Observed, ply: int, seat: int, uniform: frozenset[str]
) -> Probabilities | None:
    """Return the probability of each move of a seat; -1 is chance. None: not known."""
    if state.is_chance_node():
        return dict(state.chance_outcomes())
    if episode.agents[seat] in uniform:
        legal = state.legal_actions(seat)
        return dict.fromkeys(legal, 1 / len(legal))
    return episode.known.get((ply, seat))


def _play(state: pyspiel.State, actions: Mapping[int, int]) -> pyspiel.State:
    """Return the position after these moves."""
    child = state.clone()
    if state.is_simultaneous_node():
        # OpenSpiel expects 0 of seats that have no choice.
        child.apply_actions([actions.get(seat, 0) for seat in range(state.num_players())])
    else:
        (action,) = actions.values()
        child.apply_action(action)
    return child


class _Baseline:
    """The value of each position if everybody played at random from there on."""

    def __init__(self, game: pyspiel.Game) -> None:
        kind = game.get_type()
        # With perfect information, equal positions share a value, however they were reached.
        self._name = str if kind.information == _PERFECT else pyspiel.State.history_str
        self._values: dict[str, _Values] = {}

    def value(self, state: pyspiel.State) -> _Values:
        """Return the value for each seat. Raises _TooLarge."""
        name = self._name(state)
        if (found := self._values.get(name)) is None:
            if len(self._values) >= MAX_POSITIONS:
                raise _TooLarge
            self._values[name] = found = self._expect(state)
        return found

    def _expect(self, state: pyspiel.State) -> _Values:
        if state.is_terminal():
            return tuple(map(float, state.returns()))
        seats = range(state.num_players())
        if state.is_chance_node():
            children = [(chance, {-1: action}) for action, chance in state.chance_outcomes()]
        else:
            movers = seats if state.is_simultaneous_node() else [state.current_player()]
            legal = [state.legal_actions(seat) or [0] for seat in movers]
            lines = list(product(*legal))
            children = [(1 / len(lines), dict(zip(movers, line, strict=True))) for line in lines]
        values = [(chance, self.value(_play(state, actions))) for chance, actions in children]
        return tuple(sum(chance * value[seat] for chance, value in values) for seat in seats)
