"""Counts what a results file contains: outcomes, answers, failures."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

from arena.games.sandbox import Sandbox
from arena.games.scale import GameScale, find_scale
from arena.report.answers import AnswerStats, Share
from arena.report.exact import Exact, find_exact
from arena.report.load import Results
from arena.report.origins import Origins
from arena.report.outcomes import ReturnStats, WinDrawLoss
from arena.report.ratings import Ratings, compare_players, rate_episodes
from arena.report.replay import VerifiedReplay, verify
from arena.report.units import Course, Units, is_local
from arena.results.rows import PLAYED, EpisodeRow, ModelRow, MoveRow

#: A stored call error starts with its code and reason: "CODE REASON message".
_ERROR = re.compile(r"[A-Z_]+( [A-Z_]+)?\b")


@dataclass(slots=True)
class FailureGroup:
    """Failed or forfeited episodes with the same status, game, agent and kind.

    agent: the agents whose calls failed or who forfeited, separated by commas; "" if the moves
    do not show it. kind: the error's code and reason. reason: the full reason of the first
    episode.
    """

    status: str
    game: str
    agent: str
    kind: str
    reason: str
    episodes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Summary:
    """The counts of an experiment. Keys are agents, games, or both.

    scales: of the returns of each game. outcomes, totals, seats (by game and seat), pairs (of
    the first agent against the second): of competitive games only. returns: never added over
    games. ratings: over all competitive games; game_ratings: by game, if there are several.
    units: what is independent. exact: returns that need no sample. replays: of the finished and
    truncated episodes. origins: who answered for an agent.
    """

    name: str
    config: str
    participants: Mapping[str, ModelRow]
    unfinished: int
    games: list[str] = field(default_factory=list)
    scales: dict[str, GameScale] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    outcomes: dict[tuple[str, str], WinDrawLoss] = field(
        default_factory=lambda: defaultdict(WinDrawLoss)
    )
    totals: dict[str, WinDrawLoss] = field(default_factory=lambda: defaultdict(WinDrawLoss))
    seats: dict[tuple[str, int], WinDrawLoss] = field(
        default_factory=lambda: defaultdict(WinDrawLoss)
    )
    pairs: dict[tuple[str, str], WinDrawLoss] = field(
        default_factory=lambda: defaultdict(WinDrawLoss)
    )
    returns: dict[tuple[str, str], ReturnStats] = field(default_factory=dict)
    answers: dict[tuple[str, str], AnswerStats] = field(
        default_factory=lambda: defaultdict(AnswerStats)
    )
    answer_totals: dict[str, AnswerStats] = field(default_factory=lambda: defaultdict(AnswerStats))
    origins: dict[str, Origins] = field(default_factory=lambda: defaultdict(Origins))
    failures: list[FailureGroup] = field(default_factory=list)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    units: Units = field(default_factory=lambda: Units([], {}, {}, {}))
    ratings: Ratings = field(default_factory=Ratings)
    game_ratings: dict[str, Ratings] = field(default_factory=dict)
    exact: Exact = field(default_factory=Exact)
    replays: dict[str, VerifiedReplay] = field(default_factory=dict)

    @property
    def total(self) -> AnswerStats:
        """All players' answers together."""
        total = AnswerStats()
        for answers in self.answer_totals.values():
            total += answers
        return total

    def count_failed(self, agent: str, game: str) -> int:
        """Return an agent's failed episodes in a game; in all games if it is empty."""
        return sum(
            count for key, count in self.failed.items() if key[0] == agent and game in ("", key[1])
        )

    def is_competitive(self, game: str) -> bool:
        """Return whether a game has winners and losers."""
        return self.scales[game].competitive

    @property
    def unverified(self) -> dict[str, str]:
        """Episodes whose stored returns OpenSpiel does not confirm, with the reason."""
        return {key: replay.problem for key, replay in self.replays.items() if replay.problem}


def summarise(results: Results) -> Summary:
    """Count everything in one pass over the moves, and verify every result."""
    summary = Summary(results.name, results.config, results.participants, results.unfinished)
    summary.games = sorted({episode.game for episode in results.episodes})
    failures: dict[tuple[str, ...], FailureGroup] = {}
    courses: dict[str, Course] = {}
    illegal: dict[tuple[str, str], Share] = {}
    with closing(Sandbox()) as sandbox:
        for game in summary.games:
            played = (row.returns for row in results.episodes if row.game == game and row.returns)
            summary.scales[game] = find_scale(game, played, sandbox)
        for episode, moves in results.light_moves():
            summary.statuses[episode.status] += 1
            courses[episode.episode] = Course.of(moves)
            _count_answers(summary, episode, moves, illegal)
            if episode.status in PLAYED:
                summary.replays[episode.episode] = verify(episode, moves, sandbox.play_actions)
            else:
                _count_failure(failures, episode, moves)
        summary.exact = find_exact(results, summary.scales, sandbox)
    for episode, call in results.failed_calls():
        agent = episode.agents[call.seat]
        summary.answers[agent, episode.game].add_failed(call)
        summary.answer_totals[agent].add_failed(call)
    summary.failures = sorted(failures.values(), key=lambda failure: -len(failure.episodes))
    summary.units = Units(results.episodes, courses, summary.scales, results.participants)
    for episode in results.episodes:
        _count_outcomes(summary, episode)
        for agent in set(episode.agents):
            if (share := illegal.get((episode.episode, agent))) is not None:
                unit = summary.units.episode(episode)
                summary.answers[agent, episode.game].add_episode(unit, share)
                summary.answer_totals[agent].add_episode(unit, share)
    anchor = _find_anchor(results.config)
    ranked = [row for row in results.episodes if summary.is_competitive(row.game)]
    summary.ratings = rate_episodes(ranked, summary.units, anchor)
    if len(summary.games) > 1:
        summary.game_ratings = {
            game: rate_episodes([row for row in ranked if row.game == game], summary.units, anchor)
            for game in summary.games
            if summary.is_competitive(game)
        }
    return summary


def _find_anchor(config: str) -> str | None:
    """Return the first of the experiment's anchors."""
    try:
        anchors = json.loads(config).get("anchors")
    except (ValueError, AttributeError, RecursionError):
        return None  # no file, or that of another program
    # Canonical JSON has sorted keys, so the first one is the first by name.
    return min(map(str, anchors)) if isinstance(anchors, dict) and anchors else None


def _count_answers(
    summary: Summary,
    episode: EpisodeRow,
    moves: list[MoveRow],
    illegal: dict[tuple[str, str], Share],
) -> None:
    """Count the moves of an episode. illegal: gets each agent's share of illegal answers."""
    own: defaultdict[str, AnswerStats] = defaultdict(AnswerStats)
    for move in moves:
        if move.agent is not None:
            own[move.agent].add(move, local=is_local(summary.participants[move.agent]))
            if move.model:
                summary.origins[move.agent].add(move)
    for agent, stats in own.items():
        summary.answers[agent, episode.game] += stats
        summary.answer_totals[agent] += stats
        if stats.calls:
            illegal[episode.episode, agent] = stats.illegal


def _count_failure(
    failures: dict[tuple[str, ...], FailureGroup], episode: EpisodeRow, moves: list[MoveRow]
) -> None:
    culprits = {
        move.agent or "" for move in moves if move.status == "error" or move.policy == "forfeit"
    }
    reason = episode.reason or "no reason given"
    error = _ERROR.match(reason)
    kind = error[0] if error else episode.status
    key = (episode.status, episode.game, ", ".join(sorted(culprits)), kind)
    failure = failures.setdefault(key, FailureGroup(*key, reason))
    failure.episodes.append(episode.episode)


def _count_outcomes(summary: Summary, episode: EpisodeRow) -> None:
    scale, units = summary.scales[episode.game], summary.units
    for seat, agent in enumerate(episode.agents):
        summary.failed[agent, episode.game] += episode.status == "failed"
        key = agent, episode.game
        if key not in summary.returns:
            summary.returns[key] = ReturnStats(scale)
        summary.returns[key].add(episode, seat, units.cluster(episode))
        if not scale.competitive:
            continue
        summary.outcomes[key].add(episode, seat, units.cluster(episode))
        summary.totals[agent].add(episode, seat, units.cluster(episode))
        summary.seats[episode.game, seat].add(episode, seat, units.cluster(episode))
    if scale.competitive:
        for first, second, score, *_ in compare_players(episode):
            summary.pairs[first, second].add_points(score)
            summary.pairs[second, first].add_points(1 - score)
