"""The information states of a game: all that its players can know when they move."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import pyspiel

from arena.games.game import CHANCE, Game, GameError, State

#: A game with more information states, or with a larger tree, is refused.
MAX_STATES, MAX_TREE = 10_000, 2_000_000


@dataclass(frozen=True, slots=True)
class InformationState:
    """What a seat knows when it has to move.

    key: see make_key. state: the first position of the tree in which the seat knows this.
    """

    key: str
    seat: int
    state: State


def make_key(state: pyspiel.State, seat: int) -> str:
    """Return what a seat knows, as text. The seat is part of it."""
    if state.get_game().get_type().provides_information_state_string:
        return f"{seat} {state.information_state_string(seat)}"
    return f"{seat} {state.history_str()}"


def list_information_states(game: Game, most: int = MAX_STATES) -> list[InformationState]:
    """Return all information states of a game, those of early moves first.

    Raises GameError if there are more than `most`.
    """
    found: dict[str, tuple[int, Sequence[int]]] = {}
    for number, (raw, seat) in enumerate(_list_turns(game.raw.new_initial_state()), 1):
        found.setdefault(make_key(raw, seat), (seat, raw.history()))
        if len(found) > most or number > MAX_TREE:
            raise GameError(
                f"game {game.spec}: has more than {most:,} information states, or a tree that is "
                "too large: its players can only be compared by playing"
            )
    return [
        InformationState(key, seat, _replay(game, actions))
        for key, (seat, actions) in found.items()
    ]


def _list_turns(root: pyspiel.State) -> Iterator[tuple[pyspiel.State, int]]:
    """Yield each position of the tree with each seat that has a choice there."""
    # Early moves first, because a game may have thousands of moves, and positions with a long
    # history are slow. Positions are made one by one, so that large games can be left early.
    waiting: deque[tuple[pyspiel.State, Sequence[int]]] = deque([(root, ())])
    while waiting:
        parent, actions = waiting.popleft()
        state = parent if not actions else _apply(parent, actions)
        if state.is_terminal():
            continue
        if state.is_simultaneous_node():
            legal = [state.legal_actions(seat) for seat in range(state.num_players())]
            yield from ((state, seat) for seat, own in enumerate(legal) if own)
            children = list(product(*(own or [0] for own in legal)))
        else:
            if not state.is_chance_node():
                yield state, state.current_player()
            children = [(action,) for action in state.legal_actions()]
        waiting += ((state, actions) for actions in children)


def _apply(state: pyspiel.State, actions: Sequence[int]) -> pyspiel.State:
    """Return the position after an action, or after the actions of all players at the same time."""
    child = state.clone()
    if state.is_simultaneous_node():
        child.apply_actions(list(actions))
    else:
        child.apply_action(actions[0])
    return child


def _replay(game: Game, actions: Sequence[int]) -> State:
    """Return the arena's state after OpenSpiel's history of a position."""
    state = game.new()
    place = 0
    while place < len(actions):
        if state.is_chance:
            state.apply({CHANCE: actions[place]})
            place += 1
        elif state.raw.is_simultaneous_node():
            joint = actions[place : place + game.players]
            state.apply({seat: joint[seat] for seat in state.players_to_move()})
            place += game.players
        else:
            state.apply({state.players_to_move()[0]: actions[place]})
            place += 1
    return state
