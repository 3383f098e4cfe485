"""How long OpenSpiel's games are, and how many tokens their positions take."""

from __future__ import annotations

from typing import NamedTuple


class Game(NamedTuple):
    """What one episode asks of its players.

    players: seats. moves: of all players together, by chance alone; where players
    move at once, each one's move counts. position_tokens: of the board as OpenSpiel
    prints it and the list of legal moves, by the embedded model's tokenizer.
    """

    players: int
    moves: float
    position_tokens: float


#: Means over 200 random playouts; real players may end a game sooner.
#: Measured by: .venv/bin/python scripts/utils/measure_games.py
GAMES: dict[str, Game] = {
    "backgammon": Game(2, 117.1, 538),
    "breakthrough": Game(2, 64.2, 184),
    "checkers": Game(2, 71.9, 71),
    "chess": Game(2, 351.9, 126),
    "connect_four": Game(2, 20.7, 45),
    "dots_and_boxes": Game(2, 12.0, 112),
    "go": Game(2, 570.2, 865),
    "goofspiel": Game(2, 24.0, 171),
    "hex": Game(2, 106.9, 360),
    "kuhn_poker": Game(2, 2.2, 7),
    "leduc_poker": Game(2, 3.9, 50),
    "liars_dice": Game(2, 3.4, 40),
    "matrix_mp": Game(2, 2.0, 9),
    "matrix_pd": Game(2, 2.0, 10),
    "matrix_rps": Game(2, 2.0, 10),
    "nim": Game(2, 7.7, 81),
    "othello": Game(2, 60.4, 147),
    "pig": Game(2, 116.7, 26),
    "tic_tac_toe": Game(2, 7.6, 42),
    "y": Game(2, 174.6, 591),
}

#: The arena's own name of OpenSpiel's matrix_mp.
GAMES["matching_pennies"] = GAMES["matrix_mp"]

#: In place of a game that was not measured: about the middle of those above.
UNKNOWN_GAME = Game(2, 60.0, 150)
