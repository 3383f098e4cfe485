"""Replays a stored episode with OpenSpiel and compares the returns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from arena.games.sandbox import PlayResult, Plies, play_actions
from arena.results.rows import EpisodeRow, MoveRow, SeatRow
from arena.results.transcript import count_seats


@dataclass(frozen=True, slots=True)
class VerifiedReplay:
    """The result of a replay.

    board: the final position, which the rows of moves do not contain. problem: why OpenSpiel
    does not confirm the stored result, or why it cannot be checked; "" if it is confirmed.
    """

    board: str | None = None
    problem: str = ""


def verify(
    episode: EpisodeRow,
    moves: Collection[MoveRow],
    seats: Sequence[SeatRow] = (),
    play: Callable[[str, Plies], PlayResult] = play_actions,
) -> VerifiedReplay:
    """Replay a finished or truncated episode.

    moves: its rows in the order of play. seats: the stored counts, which the moves must lead to
    as well. play: plays the actions; use a Sandbox's play_actions for files of unknown origin.
    """
    plies = []
    for _, rows in groupby(moves, attrgetter("ply")):
        # If a turn has several answers, the last one has the action that was played.
        actions = {row.seat: row.action for row in rows}
        plies.append({seat: action for seat, action in actions.items() if action is not None})
    result = play(episode.game, plies)
    if result.problem:
        return VerifiedReplay(problem=result.problem)
    if result.ended != (episode.status == "finished"):
        reach = "reach" if result.ended else "do not reach"
        return VerifiedReplay(problem=f"the stored actions {reach} the game's end")
    if result.returns != episode.returns:
        return VerifiedReplay(result.board, f"OpenSpiel's returns are {list(result.returns)}")
    if seats and [row for row, _ in count_seats(episode, moves)] != [*seats]:
        return VerifiedReplay(result.board, "the stored counts are not those of the moves")
    return VerifiedReplay(result.board)
