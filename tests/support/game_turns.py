"""Positions and turns of games."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from arena.agents.base import Turn
from arena.agents.registry import find_agent
from arena.agents.settings import AgentSettings
from arena.games.game import CHANCE, Game, State


def read_agent(settings: Mapping[str, Any]) -> AgentSettings:
    """The checked settings of a player, as a file has them."""
    return find_agent(settings.get("type")).Settings.model_validate(dict(settings))


def reach(game: Game, actions: Sequence[int]) -> State:
    """Return the position after these actions; chance outcomes are actions as well."""
    state = game.new()
    for action in actions:
        (seat,) = (CHANCE,) if state.is_chance else state.players_to_move()
        state.apply({seat: action})
    return state


def turn_in(game: Game, state: State, seat: int, seed: int = 7) -> Turn:
    agents = tuple(f"name {number}" for number in range(game.players))
    legal = state.legal_actions(seat)
    return Turn(game, state, seat, len(state.history), legal, seed, agents)


def turn_after(spec: str, actions: Sequence[int] = (), seed: int = 7) -> Turn:
    """Return the turn after these actions, of the first player to move."""
    game = Game.load(spec)
    state = reach(game, actions)
    return turn_in(game, state, state.players_to_move()[0], seed)


def playout(spec: str, seed: int = 1, most: int = 10_000) -> Iterator[Turn]:
    """Yield the turns of a random game of at most `most` moves."""
    game, rng = Game.load(spec), random.Random(seed)  # noqa: S311 - a game, not a secret
    state = game.new()
    for _ in range(most):
        while state.is_chance:
            state.apply({CHANCE: state.draw_chance(rng).action})
        if state.is_terminal:
            return
        actions = {}
        for seat in state.players_to_move():
            turn = turn_in(game, state, seat, rng.getrandbits(63))
            yield turn
            actions[seat] = rng.choice(turn.legal).action
        state.apply(actions)


def every_turn(game: Game) -> Iterator[Turn]:
    """Yield every turn in the game tree of a game with alternating moves."""

    def below(actions: tuple[int, ...]) -> Iterator[Turn]:
        state = reach(game, actions)
        if state.is_terminal:
            return
        if state.is_chance:
            legal = tuple(action for action, _ in state.raw.chance_outcomes())
        else:
            turn = turn_in(game, state, state.players_to_move()[0])
            yield turn
            legal = tuple(action.action for action in turn.legal)
        for action in legal:
            yield from below((*actions, action))

    return below(())
