"""Measure OpenSpiel games by random playouts: how many moves an episode has, and how
many tokens its positions take. Prints the rows of client/src/arena_llm/validation/games.py.

    .venv/bin/python scripts/utils/measure_games.py [GAME ...]
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable
from typing import Any

import pyspiel
from tokenizers import Tokenizer

from arena_llm.validation.games import GAMES

#: The embedded model's: `make up` prepares it.
TOKENIZER = ".cache/models/smollm2-135m-instruct/tokenizer.json"

PLAYOUTS = 200
#: Names of the arena, not of OpenSpiel.
ALIASES = {"matching_pennies"}
#: Positions of which tokens are counted, in each game.
POSITIONS = 500


def playout(game: Any, chance: random.Random) -> list[str]:
    """Play one episode at random; what each mover saw at each of its moves."""
    state = game.new_initial_state()
    seen = []
    while not state.is_terminal():
        if state.is_chance_node():
            outcomes, weights = zip(*state.chance_outcomes(), strict=True)
            state.apply_action(chance.choices(outcomes, weights)[0])
            continue
        together = state.is_simultaneous_node()
        players = range(game.num_players()) if together else [state.current_player()]
        movers = [player for player in players if state.legal_actions(player)]
        seen += [_position(game, state, player) for player in movers]
        actions = [
            chance.choice(state.legal_actions(player) or [pyspiel.INVALID_ACTION])
            for player in players
        ]
        if together:
            state.apply_actions(actions)
        else:
            state.apply_action(actions[0])
    return seen


def _position(game: Any, state: Any, player: int) -> str:
    shows = game.get_type().provides_observation_string
    board = state.observation_string(player) if shows else str(state)
    legal = [state.action_to_string(player, action) for action in state.legal_actions(player)]
    return f"{board}\n{', '.join(legal)}"


def measure(name: str, tokens: Callable[[str], int], playouts: int = PLAYOUTS) -> tuple[float, ...]:
    """Players, mean moves of all players in an episode, mean tokens of a position."""
    game = pyspiel.load_game(name)
    chance = random.Random(name)  # noqa: S311 - a player, not a secret
    episodes = [playout(game, chance) for _ in range(playouts)]
    positions = [position for episode in episodes for position in episode]
    sample = chance.sample(positions, min(POSITIONS, len(positions)))
    moves = statistics.mean(len(episode) for episode in episodes)
    return game.num_players(), moves, statistics.mean(map(tokens, sample))


def main() -> None:
    tokenizer = Tokenizer.from_file(TOKENIZER)
    for name in sys.argv[1:] or sorted(GAMES.keys() - ALIASES):
        players, moves, tokens = measure(name, lambda text: len(tokenizer.encode(text).ids))
        print(f'    "{name}": Game({players}, {moves:.1f}, {tokens:.0f}),', flush=True)


if __name__ == "__main__":
    main()
