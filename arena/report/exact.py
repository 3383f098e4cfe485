"""Expected returns of players whose move probabilities are stored: no luck, so fewer games.

Known are random players, models that reply with scores, and local players that always answer
alike. Their positions come from the stored moves; see arena/games/expectation.py.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from arena.games.expectation import Expected, Observed, Probabilities, expect_returns
from arena.games.game import GameError
from arena.games.sandbox import Sandbox
from arena.games.scale import GameScale
from arena.report.load import Results
from arena.report.units import is_deterministic
from arena.results.rows import EpisodeRow, ModelRow, MoveRow
from arena.statistics.intervals import RETURNS, Mean, mean_interval, student_interval

#: At most this many episodes of a game are read for their moves.
MAX_EPISODES = 2_000
#: With fewer deals, Student's interval covers too little.
_FEW_DEALS = 10


@dataclass(frozen=True, slots=True)
class ExactReturn:
    """A player's expected return against others, over the seat orders that were played.

    estimator: exact, or exact given deals. deals: how many; 0 if exact.
    """

    game: str
    player: str
    against: tuple[str, ...]
    value: Mean
    estimator: str
    deals: int = 0


@dataclass(frozen=True, slots=True)
class Exact:
    """What needs no sample. exploitability: by game and player."""

    returns: Sequence[ExactReturn] = ()
    exploitability: Mapping[tuple[str, str], float] = field(default_factory=dict)


def find_exact(results: Results, scales: Mapping[str, GameScale], sandbox: Sandbox) -> Exact:
    """Return the expected returns of all line-ups whose positions are known."""
    players = results.participants
    uniform = {name for name, row in players.items() if row.type == "random"}
    stored = {name for name, row in players.items() if _has_scores(row) or is_deterministic(row)}
    returns: list[ExactReturn] = []
    exploitability: dict[tuple[str, str], float] = {}
    for game, scale in scales.items():
        episodes = [
            row
            for row in results.episodes
            if row.game == game and row.status == "finished" and (uniform | stored) >= {*row.agents}
        ][:MAX_EPISODES]
        if not episodes:
            continue
        observed = [_observe(row, results.moves(row.episode), players) for row in episodes]
        lineups = sorted({row.agents for row in episodes})
        deals = sorted({row.seed for row in episodes})
        try:
            found, exploitable = sandbox.call(
                expect_returns, game, observed, frozenset(uniform), lineups, deals
            )
        except GameError:
            continue  # too slow: the report has the sampled values
        returns += _join_seats(game, found, scale)
        played = {agent for lineup in lineups for agent in lineup}
        exploitability |= {
            (game, agent): value for agent, value in exploitable.items() if agent in played
        }
    return Exact(returns, exploitability)


def _has_scores(player: ModelRow) -> bool:
    return player.type == "llm" and _settings(player).get("reply") == "score"


def _settings(player: ModelRow) -> dict[str, object]:
    try:
        settings = json.loads(player.config)
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def _observe(
    episode: EpisodeRow, moves: Sequence[MoveRow], players: Mapping[str, ModelRow]
) -> Observed:
    plies: list[dict[int, int]] = []
    known: dict[tuple[int, int], Probabilities] = {}
    for _, rows in groupby(moves, attrgetter("ply")):
        actions: dict[int, int] = {}
        for move in rows:
            if move.action is None:
                continue
            actions[move.seat] = move.action
            player = players.get(move.agent or "")
            found = find_probabilities(move, player) if player else None
            if found is not None:
                known[len(plies), move.seat] = found
        plies.append(actions)
    return Observed(episode.agents, plies, known)


def find_probabilities(move: MoveRow, player: ModelRow) -> Probabilities | None:
    """Return the probability of each action with which a player moved; None: not known."""
    if move.status != "ok" or move.action is None:
        return None
    if not _has_scores(player):
        return {move.action: 1.0} if is_deterministic(player) else None
    settings = _settings(player)
    if settings.get("score_pick", "argmax") == "argmax":
        return {move.action: 1.0}
    temperature = settings.get("temperature", 1.0)
    temperature = 1.0 if temperature is None else temperature
    try:
        scores = json.loads(move.reply or "")
        scored = {action: float(scores[text]) for action, text in move.legal_actions or ()}
        best = max(scored.values())
    except (ValueError, KeyError, TypeError):
        return None
    if temperature == 0 or math.isinf(best) or not isinstance(temperature, int | float):
        return {move.action: 1.0}
    weights = {action: math.exp((score - best) / temperature) for action, score in scored.items()}
    total = sum(weights.values())
    return {action: weight / total for action, weight in weights.items()}


def _join_seats(
    game: str, found: Mapping[tuple[str, ...], Expected], scale: GameScale
) -> Iterator[ExactReturn]:
    """Yield each player's expected return, as the mean over the seats that it had."""
    groups: defaultdict[tuple[str, ...], list[tuple[tuple[str, ...], Expected]]] = defaultdict(list)
    for lineup, expected in found.items():
        groups[tuple(sorted(lineup))].append((lineup, expected))
    for players, entries in sorted(groups.items()):
        for player in dict.fromkeys(players):
            others = list(players)
            others.remove(player)
            places = [
                (expected, seat)
                for lineup, expected in entries
                for seat, agent in enumerate(lineup)
                if agent == player
            ]
            if all(expected.exact is not None for expected, _ in places):
                values = [expected.exact[seat] for expected, seat in places if expected.exact]
                mean = sum(values) / len(values)
                exact = Mean(mean, mean, mean, len(values), "exact")
                yield ExactReturn(game, player, tuple(others), exact, "exact")
            elif all(expected.by_deal is not None for expected, _ in places):
                deals = zip(*(expected.by_deal or () for expected, _ in places), strict=True)
                seats = [seat for _, seat in places]
                means = [
                    sum(value[seat] for value, seat in zip(deal, seats, strict=True)) / len(seats)
                    for deal in deals
                ]
                value = (
                    student_interval(means)
                    if len(means) >= _FEW_DEALS
                    else mean_interval(means, scale.low, scale.high, RETURNS)
                )
                yield ExactReturn(
                    game, player, tuple(others), value, "exact given deals", len(means)
                )
