"""Expected returns of players whose move probabilities are known, without playing.

A game between such players has an expected result that needs no sample: of the whole game if it
is small, or given each deal. Every position that the players can reach must be known.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import pyspiel

from arena.games.information import MAX_TREE, make_key

#: The most positions of one tree, and of all trees together. Larger trees are not evaluated.
MAX_POSITIONS, MAX_TOTAL = 20_000, 100_000

#: The probability of each action.
Probabilities = Mapping[int, float]
#: The probabilities at each information state. None: all legal actions are equally likely.
Policy = Mapping[str, Probabilities] | None


@dataclass(frozen=True, slots=True)
class Observed:
    """An episode of players whose probabilities are known.

    agents: in seat order. plies: the actions of each ply, by seat. known: the probabilities at
    which a seat moved, by ply and seat.
    """

    agents: tuple[str, ...]
    plies: Sequence[Mapping[int, int]]
    known: Mapping[tuple[int, int], Probabilities]


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected returns of a line-up in seat order: of the game, or given each deal.

    exact: of the game, over all deals. by_deal: in the order of the deals. At most one of them
    is known.
    """

    exact: tuple[float, ...] | None = None
    by_deal: tuple[tuple[float, ...], ...] | None = None


class _Unknown(Exception):
    """The probabilities at a position are not known, or there are too many positions."""


def expect_returns(
    game: str,
    observed: Sequence[Observed],
    uniform: frozenset[str],
    lineups: Sequence[tuple[str, ...]],
    deals: Sequence[int],
    scored: Mapping[str, Mapping[str, Probabilities]] = MappingProxyType({}),
) -> tuple[dict[tuple[str, ...], Expected], dict[str, float]]:
    """Return the expected returns of each line-up, and how exploitable each agent is.

    uniform: agents that play at random. deals: seeds of the episodes' chance events. scored: the
    whole policies of agents whose information states were all scored; with these, larger trees are
    evaluated. The exploitability is the mean, over both seats, of what the best opponent wins in a
    two-player zero-sum game. Nothing is returned where positions are missing. Runs in the sandbox.
    """
    try:
        raw = pyspiel.load_game(game)
        policies: dict[str, Policy] = {**_learn(raw, observed), **scored, **dict.fromkeys(uniform)}
        if raw.get_type().chance_mode == pyspiel.GameType.ChanceMode.DETERMINISTIC:
            deals = []
        most = MAX_TREE if scored else MAX_POSITIONS
        found, left = {}, [2 * MAX_TREE if scored else MAX_TOTAL]
        for lineup in lineups:
            if all(agent in policies for agent in lineup):
                known = [policies[agent] for agent in lineup]
                found[lineup] = _expect_lineup(raw, known, deals, left, most)
        exploitable = {}
        for agent, policy in policies.items():
            value = _exploit(raw, policy, most)
            if value is not None:
                exploitable[agent] = value
        return found, exploitable
    except Exception:  # OpenSpiel's games raise errors of many types
        return {}, {}


def weigh(logprobs: Mapping[int, float], temperature: float = 1.0) -> Probabilities:
    """Return the probability of each action by its log-probability; at temperature 0 the likeliest.

    Of equally likely actions, temperature 0 takes the first.
    """
    best = max(logprobs, key=logprobs.__getitem__)
    if temperature == 0 or math.isinf(logprobs[best]):
        return {best: 1.0}
    weights = {
        action: math.exp((logprob - logprobs[best]) / temperature)
        for action, logprob in logprobs.items()
    }
    total = sum(weights.values())
    return {action: weight / total for action, weight in weights.items()}


def _learn(game: pyspiel.Game, observed: Sequence[Observed]) -> dict[str, dict[str, Probabilities]]:
    """Collect each agent's probabilities by what its seat knew."""
    policies: dict[str, dict[str, Probabilities]] = {}
    for episode in observed:
        state = game.new_initial_state()
        for ply, actions in enumerate(episode.plies):
            for seat in actions:
                if (found := episode.known.get((ply, seat))) is not None:
                    own = policies.setdefault(episode.agents[seat], {})
                    own.setdefault(make_key(state, seat), found)
            if state.is_simultaneous_node():
                seats = range(game.num_players())
                state.apply_actions([actions.get(seat, 0) for seat in seats])
            else:
                (action,) = actions.values()
                state.apply_action(action)
    return policies


def _expect_lineup(
    game: pyspiel.Game, policies: Sequence[Policy], deals: Sequence[int], left: list[int], most: int
) -> Expected:
    """left: how many more positions may be counted. most: in one tree."""
    root = game.new_initial_state()
    try:
        return Expected(exact=_Tree(policies, left, most).expect(root))
    except _Unknown:
        pass
    try:
        values = [_Tree(policies, left, most, deal).expect(root) for deal in deals]
    except _Unknown:
        return Expected()
    return Expected(by_deal=tuple(values)) if values else Expected()


class _Tree:
    """Walks all positions that the policies reach.

    total: how many positions all trees may still have. most: how many this one may have. deal: the
    seed of the chance events.
    """

    def __init__(
        self, policies: Sequence[Policy], total: list[int], most: int, deal: int | None = None
    ) -> None:
        self._policies = policies
        self._deal = deal
        self._left = most
        self._total = total

    def expect(self, state: pyspiel.State, events: int = 0) -> tuple[float, ...]:
        """Return the expected returns. events: chance events so far. Raises _Unknown."""
        self._left -= 1
        self._total[0] -= 1
        if self._left < 0 or self._total[0] < 0:
            raise _Unknown
        if state.is_terminal():
            return tuple(float(value) for value in state.returns())
        total = [0.0] * len(self._policies)
        chance = state.is_chance_node()
        for probability, actions in self._list_moves(state, events):
            child = state.clone()
            if state.is_simultaneous_node():
                child.apply_actions(list(actions))
            else:
                child.apply_action(actions[0])
            for seat, value in enumerate(self.expect(child, events + chance)):
                total[seat] += probability * value
        return tuple(total)

    def _list_moves(
        self, state: pyspiel.State, events: int
    ) -> Iterator[tuple[float, tuple[int, ...]]]:
        if state.is_chance_node():
            outcomes = state.chance_outcomes()
            if self._deal is not None:
                outcomes = [(_draw(outcomes, self._deal, events), 1.0)]
            yield from ((probability, (action,)) for action, probability in outcomes)
        elif state.is_simultaneous_node():
            seats = [_decide(state, seat, policy) for seat, policy in enumerate(self._policies)]
            for moves in product(*(seat.items() for seat in seats)):
                probability = 1.0
                for _, one in moves:
                    probability *= one
                yield probability, tuple(action for action, _ in moves)
        else:
            seat = state.current_player()
            found = _decide(state, seat, self._policies[seat])
            yield from ((probability, (action,)) for action, probability in found.items())


def _decide(state: pyspiel.State, seat: int, policy: Policy) -> Probabilities:
    """Return the probabilities of a seat's actions, without those of 0. Raises _Unknown."""
    legal = state.legal_actions(seat)
    if not legal:
        return {0: 1.0}  # OpenSpiel expects 0 of seats that have no choice
    if policy is None:
        return dict.fromkeys(legal, 1 / len(legal))
    found = policy.get(make_key(state, seat))
    if found is None:
        raise _Unknown
    return {action: value for action, value in found.items() if value > 0}


def _draw(outcomes: Sequence[tuple[int, float]], deal: int, events: int) -> int:
    """Return the outcome that the episodes of a deal have at a chance event of this number."""
    rng = random.Random(deal)  # noqa: S311 - repeatable, not secret
    for _ in range(events):
        rng.random()
    actions, weights = zip(*outcomes, strict=True)
    return int(rng.choices(actions, weights)[0])


def _exploit(game: pyspiel.Game, policy: Policy, most: int) -> float | None:
    """Return what the best opponent wins on average over both seats; None: not known."""
    kind = game.get_type()
    if (
        game.num_players() != 2
        or kind.utility != pyspiel.GameType.Utility.ZERO_SUM
        or kind.dynamics != pyspiel.GameType.Dynamics.SEQUENTIAL
        or not kind.provides_information_state_string
    ):
        return None
    try:
        values = []
        for seat in range(2):
            table: dict[str, list[tuple[int, float]]] = {}
            _tabulate(game.new_initial_state(), seat, policy, table, [most])
            response = pyspiel.TabularBestResponse(game, 1 - seat, table)
            values.append(response.value_from_state(game.new_initial_state()))
        return float(sum(values) / 2)
    except _Unknown:
        return None


def _tabulate(
    state: pyspiel.State,
    seat: int,
    policy: Policy,
    table: dict[str, list[tuple[int, float]]],
    left: list[int],
    reached: bool = True,
) -> None:
    """Fill the table with a seat's probabilities wherever any opponent can lead the game.

    reached: False where the player never goes. Nothing has to be known there, but OpenSpiel needs
    some probabilities.
    """
    left[0] -= 1
    if left[0] < 0:
        raise _Unknown
    if state.is_terminal():
        return
    actions = played = state.legal_actions()
    if not state.is_chance_node() and state.current_player() == seat:
        key = state.information_state_string(seat)
        if reached:
            found = _decide(state, seat, policy)
            table[key] = [(action, found.get(action, 0.0)) for action in actions]
            played = list(found)
        else:
            table.setdefault(key, [(action, 1 / len(actions)) for action in actions])
    for action in actions:
        _tabulate(state.child(action), seat, policy, table, left, reached and action in played)
