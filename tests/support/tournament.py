"""A tournament with boards, cards, illegal answers and failures, for the report."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

from arena.results.rows import MoveRow
from tests.support.random_play import Played, asked, play

AGENTS = ("hf_one", "litellm_maker/two-instruct", "random")
GAMES = ("tic_tac_toe", "connect_four", "hex(board_size=4)", "breakthrough(rows=5,columns=4)")


def answered(row: MoveRow) -> list[MoveRow]:
    """Give hf_one an illegal first answer in each game, and the other model two providers.

    Random players send no prompts.
    """
    if row.agent == "random":
        return [row]
    if row.agent == "hf_one" and row.ply == 0:
        lost = {"action": None, "action_text": None, "policy": "retry", "problem": "z9 is no move"}
        return [asked(row, status="illegal", reply="z9!", **lost), asked(row, attempt=1)]
    if row.agent == AGENTS[1]:
        # Two providers of one model; one of them refuses once.
        served = {"provider": "Fast", "precision": "fp8"} if row.seat else {"provider": "Slow"}
        refused = row.ply == 3 and row.episode.startswith("tic_tac_toe/0")
        answer = asked(row, **served, finish_reason="refusal" if refused else "stop")
        if row.ply == 4:  # the provider failed once
            answer = replace(answer, attempts=2, failed_attempts_picousd=10**6)
        return [answer]
    return [asked(row)]


def tournament() -> list[Played]:
    """Games with boards, cards and simultaneous moves; a forfeit, a failure."""
    pairs = list(permutations(AGENTS, 2))
    played = [play(game, pair, 0, answered) for game in GAMES for pair in pairs]
    played += [play("kuhn_poker", pair, number, answered) for pair in pairs for number in range(3)]
    played += [play("matrix_rps", pair, number, answered) for pair in pairs for number in range(18)]
    forfeited, failed = (play("tic_tac_toe", AGENTS[:2], number, answered) for number in (1, 2))
    gave_up = replace(forfeited.moves[0], policy="forfeit")
    played.append(
        Played(
            replace(
                forfeited.row, status="forfeited", loser=0, reason="no legal answer", returns=None
            ),
            (gave_up,),
        )
    )
    error = replace(
        failed.moves[3], status="error", problem="UNAVAILABLE BACKEND_DOWN hf", action=None
    )
    played.append(
        Played(
            replace(failed.row, status="failed", reason=error.problem, returns=None),
            (*failed.moves[:3], error),
        )
    )
    return played
