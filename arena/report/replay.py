"""Plays a stored episode again by OpenSpiel: do its actions lead to its returns?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from arena.games.sandbox import PlayResult, Plies, play_actions
from arena.results.rows import EpisodeRow, MoveRow


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it.

    problem: why the stored result is not OpenSpiel's, or cannot be checked; empty if it
    is. board: the last position, which no row of moves has.
    """

    board: str | None = None
    problem: str = ""


def replay(
    episode: EpisodeRow,
    moves: Iterable[MoveRow],
    play: Callable[[str, Plies], PlayResult] = play_actions,
) -> Replay:
    """Replay a finished or truncated episode; moves: its rows in the order of play.

    play: plays the actions; a Sandbox's, where the file may be anybody's.
    """
    plies = []
    for _, rows in groupby(moves, attrgetter("ply")):
        # Of several answers of a turn, the last one says what was played.
        played = {row.seat: row.action for row in rows}
        plies.append({seat: action for seat, action in played.items() if action is not None})
    outcome = play(episode.game, plies)
    if outcome.problem:
        return Replay(problem=outcome.problem)
    if outcome.ended != (episode.status == "finished"):
        reach = "reach" if outcome.ended else "do not reach"
        return Replay(problem=f"the stored actions {reach} the game's end")
    if outcome.returns != episode.returns:
        return Replay(outcome.board, f"OpenSpiel's returns are {list(outcome.returns)}")
    return Replay(outcome.board)
