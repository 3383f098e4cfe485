"""All that the tables and the page tell, counted once."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

from arena.games.sandbox import Sandbox
from arena.report.answers import Answers
from arena.report.load import Results
from arena.report.outcomes import Tally, comparisons
from arena.report.ratings import Rating, rate
from arena.report.replay import Replay, replay
from arena.results.rows import PLAYED, EpisodeRow, ModelRow

#: "CODE REASON message", as a call's error is kept.
ERROR = re.compile(r"[A-Z_]+( [A-Z_]+)?\b")


@dataclass(slots=True)
class Failure:
    """Episodes that failed or were forfeited alike: same status, game, culprit and kind.

    agent: whose call failed, or who forfeited, in one string; empty where no move says
    so. kind: code and reason of the error. reason: the first such episode's, whole.
    """

    status: str
    game: str
    agent: str
    kind: str
    reason: str
    episodes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Summary:
    """An experiment's results. Keys are agents, games, or both.

    seats: by game and seat. pairs: outcomes of the first agent against the second.
    ratings: over all games together, and by game. replays: of the finished and
    truncated episodes.
    """

    name: str
    config: str
    participants: Mapping[str, ModelRow]
    unfinished: int
    games: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    tallies: dict[tuple[str, str], Tally] = field(default_factory=lambda: defaultdict(Tally))
    totals: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    seats: dict[tuple[str, int], Tally] = field(default_factory=lambda: defaultdict(Tally))
    pairs: dict[tuple[str, str], Tally] = field(default_factory=lambda: defaultdict(Tally))
    answers: dict[tuple[str, str], Answers] = field(default_factory=lambda: defaultdict(Answers))
    answer_totals: dict[str, Answers] = field(default_factory=lambda: defaultdict(Answers))
    failures: list[Failure] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)
    game_ratings: dict[str, list[Rating]] = field(default_factory=dict)
    replays: dict[str, Replay] = field(default_factory=dict)

    @property
    def groups(self) -> int:
        """Into how many groups the players fall that never met."""
        return len({rating.group for rating in self.ratings})

    @property
    def total(self) -> Answers:
        whole = Answers()
        for answers in self.answer_totals.values():
            whole += answers
        return whole

    @property
    def unverified(self) -> dict[str, str]:
        """Episodes with returns that OpenSpiel does not confirm, and why."""
        return {key: found.problem for key, found in self.replays.items() if found.problem}


def summarise(results: Results) -> Summary:
    """Count everything, in one pass over the moves."""
    summary = Summary(results.name, results.config, results.participants, results.unfinished)
    summary.games = sorted({episode.game for episode in results.episodes})
    failures: dict[tuple[str, ...], Failure] = {}
    with closing(Sandbox()) as sandbox:
        for episode, moves in results.light_moves():
            summary.statuses[episode.status] += 1
            _count(summary, episode)
            culprits = set()
            for move in moves:
                if move.agent is not None:
                    summary.answers[move.agent, episode.game].add(move)
                    summary.answer_totals[move.agent].add(move)
                if move.status == "error" or move.policy == "forfeit":
                    culprits.add(move.agent or "")
            if episode.status in PLAYED:
                summary.replays[episode.episode] = replay(episode, moves, sandbox.play_actions)
            else:
                reason = episode.reason or "no reason given"
                kind = found[0] if (found := ERROR.match(reason)) else episode.status
                key = (episode.status, episode.game, ", ".join(sorted(culprits)), kind)
                failure = failures.setdefault(key, Failure(*key, reason))
                failure.episodes.append(episode.episode)
    summary.failures = sorted(failures.values(), key=lambda failure: -len(failure.episodes))
    summary.ratings = rate(results.episodes)
    if len(summary.games) > 1:
        summary.game_ratings = {
            game: rate(episode for episode in results.episodes if episode.game == game)
            for game in summary.games
        }
    return summary


def _count(summary: Summary, episode: EpisodeRow) -> None:
    for seat, agent in enumerate(episode.agents):
        for tally in (
            summary.tallies[agent, episode.game],
            summary.totals[agent],
            summary.seats[episode.game, seat],
        ):
            tally.add(episode, seat)
    for one, two, score in comparisons(episode):
        for pair, points in (((one, two), score), ((two, one), 1 - score)):
            summary.pairs[pair].wins += points == 1
            summary.pairs[pair].draws += points == 0.5
            summary.pairs[pair].losses += points == 0
