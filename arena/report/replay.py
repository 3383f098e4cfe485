"""Plays a stored episode again by OpenSpiel: do its actions lead to its returns?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import attrgetter

from arena.games.game import Game, GameError
from arena.results.rows import EpisodeRow, MoveRow


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it.

    problem: why the stored result is not OpenSpiel's, or cannot be checked; empty if it
    is. board: the last position, which no row of moves has.
    """

    board: str | None = None
    problem: str = ""


def replay(episode: EpisodeRow, moves: Iterable[MoveRow]) -> Replay:
    """Replay a finished or truncated episode; moves: its rows in the order of play."""
    try:
        state = _load(episode.game).new()
        for _, rows in groupby(moves, attrgetter("ply")):
            # Of several answers of a turn, the last one says what was played.
            played = {row.seat: row.action for row in rows}
            state.apply({seat: action for seat, action in played.items() if action is not None})
    except (GameError, ValueError) as error:
        return Replay(problem=str(error))
    if state.is_terminal != (episode.status == "finished"):
        reach = "reach" if state.is_terminal else "do not reach"
        return Replay(problem=f"the stored actions {reach} the game's end")
    if state.returns() != episode.returns:
        return Replay(state.board(), f"OpenSpiel's returns are {list(state.returns())}")
    return Replay(state.board())


@lru_cache(maxsize=64)
def _load(game: str) -> Game:
    return Game.load(game)
