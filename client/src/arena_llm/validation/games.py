"""How long games are, and how many tokens the arena's prompts and the replies take."""

from __future__ import annotations

from typing import NamedTuple


class Game(NamedTuple):
    """What one episode asks of its players.

    players: seats. moves: of all players together, by chance alone; where players
    move at once, each one's move counts. prompt_tokens: of a whole prompt that asks for
    a reply in JSON (the other kinds are a little shorter), over all of an episode, by the
    embedded model's tokenizer. Prompts with a history, such as chess's, grow: where
    max_plies ends episodes early, theirs are shorter than this.
    """

    players: int
    moves: float
    prompt_tokens: float


#: Means over 200 random playouts; real players may end a game sooner.
#: Measured by: .venv/bin/python scripts/utils/measure_games.py
GAMES: dict[str, Game] = {
    "backgammon": Game(2, 117.1, 1319),
    "breakthrough": Game(2, 64.2, 584),
    "checkers": Game(2, 71.9, 510),
    "chess": Game(2, 351.9, 1440),
    "connect_four": Game(2, 20.7, 341),
    "dots_and_boxes": Game(2, 12.0, 369),
    "go": Game(2, 570.2, 1514),
    "goofspiel": Game(2, 24.0, 553),
    "hex": Game(2, 106.9, 772),
    "kuhn_poker": Game(2, 2.2, 300),
    "leduc_poker": Game(2, 3.9, 389),
    "liars_dice": Game(2, 3.4, 351),
    "matrix_mp": Game(2, 2.0, 281),
    "matrix_pd": Game(2, 2.0, 298),
    "matrix_rps": Game(2, 2.0, 426),
    "nim": Game(2, 7.7, 310),
    "othello": Game(2, 60.4, 511),
    "pig": Game(2, 116.7, 411),
    "tic_tac_toe": Game(2, 7.6, 303),
    "y": Game(2, 174.6, 1130),
}

#: The arena's own name of OpenSpiel's matrix_mp.
GAMES["matching_pennies"] = GAMES["matrix_mp"]

#: In place of a game that was not measured: about the middle of those above.
UNKNOWN_GAME = Game(2, 60.0, 420)

#: Of one call, by `reply`: a short reasoning and an action in JSON; an action alone, which
#: hosted models put into JSON too; nothing. Models that think at length take far more.
COMPLETION_TOKENS = {"json": 150, "choices": 10, "score": 0}
