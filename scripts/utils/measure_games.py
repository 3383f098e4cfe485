"""Measure games by random play: the moves of an episode, and the tokens of the arena's prompts.

Prints the values of `playouts` for the files in arena/games/text.

    .venv/bin/python scripts/utils/measure_games.py [GAME ...]
"""

from __future__ import annotations

import argparse

from tokenizers import Tokenizer

from arena.experiment.measure import measure_game
from arena.games.game import Game
from arena.games.text import measured_playouts
from services.common.local.checks import embedded_folder

#: The embedded model's tokenizer, which `make up` prepares.
TOKENIZER = embedded_folder() / "tokenizer.json"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure games by random play.")
    parser.add_argument("games", nargs="*", metavar="GAME", help="default: all measured games")
    names = parser.parse_args().games or sorted(measured_playouts())
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    for name in names:
        size = measure_game(Game.load(name), lambda text: len(tokenizer.encode(text).ids))
        players, moves, tokens = size
        print(f'    "{name}": Playout({players}, {moves:.1f}, {tokens:.0f}),', flush=True)


if __name__ == "__main__":
    main()
