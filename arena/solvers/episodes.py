"""Judges the moves of stored episodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from arena.games.game import Game, GameError
from arena.games.sandbox import Sandbox
from arena.games.scale import GameScale
from arena.results.rows import EpisodeRow, MoveRow
from arena.solvers import (
    LIMITS,
    MODULES,
    PAWNS,
    SolverMissing,
    Unreached,
    find_original,
    load_solver,
)


class JudgedMove(NamedTuple):
    """How good a stored move was. regret: see Judged. best: the names of the best actions."""

    regret: float
    best: tuple[str, ...]


#: By ply and seat.
JudgedMoves = Mapping[tuple[int, int], JudgedMove]


class Judgement(NamedTuple):
    """What a solver says of an episode.

    moves: those that it judged. unreached: how many moves best play does not lead to. problem: why
    the solver is missing, else "".
    """

    moves: JudgedMoves
    unreached: int = 0
    problem: str = ""


def judge_actions(
    game: str, plies: Sequence[Mapping[int, int]], wanted: frozenset[tuple[int, int]]
) -> Judgement:
    """Judge actions of an episode.

    wanted: ply and seat of each action to judge. Never raises: runs in the sandbox.
    """
    found: dict[tuple[int, int], JudgedMove] = {}
    unreached = 0
    try:
        solver = load_solver(game)
        state = Game.load(game).new()
        for ply, actions in enumerate(plies):
            for seat, action in actions.items():
                if (ply, seat) not in wanted or solver is None:
                    continue
                try:
                    judged = solver.judge(state.raw, action)
                except Unreached:
                    unreached += 1
                    continue
                if judged is not None:
                    names = tuple(state.raw.action_to_string(seat, one) for one in judged.best)
                    found[ply, seat] = JudgedMove(judged.regret, names)
            state.apply(actions)
    except SolverMissing as missing:
        return Judgement({}, problem=str(missing))
    except Exception:  # OpenSpiel's games raise errors of many types
        return Judgement(found, unreached)
    return Judgement(found, unreached)


def find_range(game: str, scale: GameScale) -> float:
    """Return the largest possible regret of a move."""
    return PAWNS if find_original(game) == "chess" else scale.high - scale.low


@dataclass(slots=True)
class MoveJudge:
    """Judges episodes of one file.

    problems: why the moves of a game are not judged. unreached: how many moves of a game best play
    does not lead to.
    """

    sandbox: Sandbox
    problems: dict[str, str] = field(default_factory=dict)
    unreached: Counter[str] = field(default_factory=Counter)
    _counts: Counter[str] = field(default_factory=Counter)

    def judge(self, episode: EpisodeRow, moves: Iterable[MoveRow]) -> JudgedMoves:
        """Judge the moves that the players of an episode chose. Empty without a solver."""
        game = episode.game
        short = find_original(game)
        if short not in MODULES or game in self.problems:
            return {}
        plies, wanted = _list_actions(moves)
        if short in LIMITS:
            wanted = wanted[: max(0, LIMITS[short] - self._counts[short])]
        if not wanted:
            return {}
        try:
            found = self.sandbox.call(judge_actions, game, plies, frozenset(wanted))
        except GameError as error:
            found = Judgement({}, problem=str(error))
        if found.problem:
            self.problems[game] = found.problem
        self.unreached[game] += found.unreached
        self._counts[short] += len(found.moves)
        return found.moves


def _list_actions(
    moves: Iterable[MoveRow],
) -> tuple[list[dict[int, int]], list[tuple[int, int]]]:
    """Return the played actions of each ply, and which of them a player chose."""
    plies: list[dict[int, int]] = []
    chosen: list[tuple[int, int]] = []
    for _, rows in groupby(moves, attrgetter("ply")):
        actions: dict[int, int] = {}
        for move in rows:
            if move.action is not None:
                actions[move.seat] = move.action
                if move.status == "ok" and move.agent is not None:
                    chosen.append((len(plies), move.seat))
        plies.append(actions)
    return plies, chosen
