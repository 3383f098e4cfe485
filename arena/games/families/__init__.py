"""The words for each family of games, and which game belongs to which."""

from __future__ import annotations

from collections.abc import Mapping

import pyspiel

from arena.games.families.breakthrough import Breakthrough
from arena.games.families.chess import Chess
from arena.games.families.connect_four import ConnectFour
from arena.games.families.family import Family
from arena.games.families.generic import Generic
from arena.games.families.hex import Hex
from arena.games.families.kuhn_poker import KuhnPoker
from arena.games.families.leduc_poker import LeducPoker
from arena.games.families.liars_dice import LiarsDice
from arena.games.families.matrix import MatrixGame, stage_of
from arena.games.families.tic_tac_toe import TicTacToe

__all__ = ["Family", "family_of", "known_bounds"]

#: OpenSpiel's name of a game to its family.
_BY_NAME: Mapping[str, type[Family]] = {
    "breakthrough": Breakthrough,
    "chess": Chess,
    "connect_four": ConnectFour,
    "hex": Hex,
    "kuhn_poker": KuhnPoker,
    "leduc_poker": LeducPoker,
    "liars_dice": LiarsDice,
    "tic_tac_toe": TicTacToe,
}


def known_bounds(name: str) -> Mapping[str, tuple[int, int]]:
    """Least and greatest value of the parameters of OpenSpiel's game of this name."""
    return _BY_NAME.get(name, Generic).bounds


def family_of(game: pyspiel.Game) -> Family:
    """The game's words. Raises ValueError where the family cannot tell this variant."""
    if isinstance(game, pyspiel.MatrixGame) or stage_of(game):
        return MatrixGame(game)
    return _BY_NAME.get(game.get_type().short_name, Generic)(game)
