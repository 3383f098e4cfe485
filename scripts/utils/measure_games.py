"""Measure games by random playouts: how many moves an episode has, and how many tokens
the arena's prompts take. Prints the values of `playouts` for the files in arena/games/text.

    .venv/bin/python scripts/utils/measure_games.py [GAME ...]
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Iterator

from tokenizers import Tokenizer

from arena.agents.base import Turn
from arena.agents.prompt import as_text, build_prompt
from arena.games.game import CHANCE, Game
from arena.games.text import measured_playouts
from services.hf.embedded import default_folder

#: The embedded model's: `make up` prepares it.
TOKENIZER = str(default_folder() / "tokenizer.json")

PLAYOUTS = 200
#: Prompts of which tokens are counted, in each game.
PROMPTS = 500


def playout(game: Game, chance: random.Random) -> Iterator[Turn]:
    """Play one episode at random; a turn is to be looked at before the next one."""
    state = game.new()
    while not state.is_terminal:
        if state.is_chance:
            state.apply({CHANCE: state.draw_chance(chance).action})
            continue
        actions = {}
        for seat in state.players_to_move():
            turn = Turn(game, state, seat, len(state.history), state.legal_actions(seat), seed=0)
            yield turn
            actions[seat] = chance.choice(turn.legal).action
        state.apply(actions)


def measure(name: str, tokens: Callable[[str], int], playouts: int = PLAYOUTS) -> tuple[float, ...]:
    """Players, mean moves of all players in an episode, mean tokens of a prompt."""
    game = Game.load(name)
    # Two, so that the moves do not depend on which prompts are looked at.
    chance, drawing = random.Random(name), random.Random(name)  # noqa: S311 - no secrets
    moves = 0
    counts: list[int] = []
    for _ in range(playouts):
        for turn in playout(game, chance):
            moves += 1
            # A uniform sample of a stream whose length is not known (Vitter 1985, R).
            place = len(counts) if moves <= PROMPTS else drawing.randrange(moves)
            if place < PROMPTS:
                counts[place : place + 1] = [tokens(as_text(build_prompt(turn, "json")))]
    return game.players, moves / playouts, statistics.mean(counts)


def main() -> None:
    tokenizer = Tokenizer.from_file(TOKENIZER)
    for name in sys.argv[1:] or sorted(measured_playouts()):
        players, moves, tokens = measure(name, lambda text: len(tokenizer.encode(text).ids))
        print(f'    "{name}": Playout({players}, {moves:.1f}, {tokens:.0f}),', flush=True)


if __name__ == "__main__":
    main()
