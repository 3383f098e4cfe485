"""What the returns of a game mean: who wins, or how much each player gets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyspiel

from arena.games.game import Game, GameError
from arena.games.sandbox import Sandbox

_COMPETITIVE = (pyspiel.GameType.Utility.ZERO_SUM, pyspiel.GameType.Utility.CONSTANT_SUM)


@dataclass(frozen=True, slots=True)
class GameScale:
    """The scale of a game's returns.

    competitive: what one player gains, others lose, so that the players can be ranked. low,
    high: bounds of a return. chance: whether the game has chance events, so that a deal can
    favour a player. players: number of seats. generic: the game's rules are not written out.
    """

    competitive: bool
    low: float
    high: float
    chance: bool
    players: int = 2
    generic: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether a return says no more than who won."""
        return self.competitive and (self.low, self.high) == (-1.0, 1.0)


def find_scale(game: str, returns: Iterable[Sequence[float]], sandbox: Sandbox) -> GameScale:
    """Return the scale of a game. returns: those that were observed.

    The observed ones decide if OpenSpiel cannot load the game or knows no bounds.
    """
    observed = list(returns)
    values = [value for row in observed for value in row]
    try:
        found = sandbox.call(describe_game, game)
    except GameError:
        found = None
    if found is None:
        sums = {round(sum(row), 6) for row in observed}
        players = len(observed[0]) if observed else 2
        low, high = min(values, default=0), max(values, default=0)
        found = GameScale(len(sums) == 1, low, high, True, players)
    low, high = min([found.low, *values]), max([found.high, *values])
    return replace(found, low=low, high=high)


def describe_game(game: str) -> GameScale | None:
    """Return the scale that OpenSpiel states; None if it cannot load the game.

    A game from a file of unknown origin must be described in the sandbox.
    """
    try:
        loaded = Game.load(game)
        kind = loaded.raw.get_type()
        return GameScale(
            loaded.players > 1 and kind.utility in _COMPETITIVE,
            float(loaded.raw.min_utility()),
            float(loaded.raw.max_utility()),
            not loaded.deterministic,
            loaded.players,
            loaded.text.generic,
        )
    except Exception:  # OpenSpiel's games raise errors of many types
        return None
