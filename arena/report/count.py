"""Counts what a results file contains: outcomes, answers, failures."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from arena.games.sandbox import Sandbox
from arena.games.scale import GameScale, find_scale
from arena.report.answers import AnswerStats
from arena.report.corrected import find_corrected
from arena.report.exact import Exact, find_exact
from arena.report.load import Results
from arena.report.origins import Origins
from arena.report.outcomes import MoveQuality, ReturnStats, WinDrawLoss
from arena.report.places import ListPlace, PlaceStats, find_places, read_order
from arena.report.ratings import Ratings, compare_players, rate_episodes
from arena.report.replay import VerifiedReplay, verify
from arena.report.units import Units, is_local
from arena.results.columns import (
    Episodes,
    Floats,
    Numbers,
    count_illegal,
    read_counts,
    read_culprits,
)
from arena.results.rows import PLAYED, EpisodeRow, ModelRow, MoveRow
from arena.solvers.episodes import JudgedMoves, MoveJudge
from arena.statistics.intervals import Mean

#: Episodes whose moves are read by default, which takes a second. The other figures of a million
#: episodes take ten.
REPLAYS = 1_000

#: An episode, a model, and the places of what it chose there.
_Found = tuple[EpisodeRow, str, list[ListPlace]]

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
    units: what is independent. exact: returns that need no sample. read: the episodes whose moves
    were read. replays: of the finished and truncated ones of these. origins: who answered for an
    agent. judged: how good the moves of an episode were. unjudged: why those of a game were not
    judged. unreached: see MoveJudge. places: of the actions that models chose. quality: of each
    agent's moves.
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
    units: Units = field(default_factory=lambda: Units(Episodes.collect([]), {}, {}))
    ratings: Ratings = field(default_factory=Ratings)
    game_ratings: dict[str, Ratings] = field(default_factory=dict)
    exact: Exact = field(default_factory=Exact)
    read: Sequence[EpisodeRow] = ()
    replays: dict[str, VerifiedReplay] = field(default_factory=dict)
    judged: dict[str, JudgedMoves] = field(default_factory=dict)
    unjudged: dict[str, str] = field(default_factory=dict)
    unreached: Counter[str] = field(default_factory=Counter)
    places: dict[tuple[str, str], PlaceStats] = field(default_factory=dict)
    quality: dict[tuple[str, str], MoveQuality] = field(
        default_factory=lambda: defaultdict(MoveQuality)
    )

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

    def result(self, agent: str, game: str) -> Mean | None:
        """Return a player's score, or its mean return in a game without winners."""
        if self.is_competitive(game):
            found = self.outcomes.get((agent, game))
            return found.scores.mean() if found else None
        returns = self.returns.get((agent, game))
        return returns.mean if returns else None

    @property
    def unverified(self) -> dict[str, str]:
        """Episodes whose stored returns OpenSpiel does not confirm, with the reason."""
        return {key: replay.problem for key, replay in self.replays.items() if replay.problem}


def summarise(results: Results, replays: int | None = REPLAYS) -> Summary:
    """Count everything, and verify the first results.

    replays: of how many episodes the moves are read; None: of all.
    """
    summary = Summary(results.name, results.config, results.participants, results.unfinished)
    episodes = results.columns
    kinds = episodes.kinds
    summary.games = sorted({kind.game for kind in kinds})
    _count_answers(summary, results)
    summary.read = tuple(results.first(replays))
    orders = {name: read_order(row) for name, row in results.participants.items()}
    found_places: list[_Found] = []
    with closing(Sandbox(own=results.own_games)) as sandbox:
        judge = MoveJudge(sandbox)
        for game in summary.games:
            played = (kind.returns for kind in kinds if kind.game == game and kind.returns)
            summary.scales[game] = find_scale(game, played, sandbox)
        for episode in summary.read:
            legal = any(orders.get(agent) for agent in episode.agents)
            moves = results.moves(episode, light=True, legal=legal)
            found_places += _find_places(episode, moves, orders)
            _count_latencies(summary, episode, moves)
            if judged := judge.judge(episode, moves):
                summary.judged[episode.episode] = judged
            if episode.status in PLAYED:
                summary.replays[episode.episode] = verify(
                    episode, moves, results.reader.seats_of(episode), sandbox.play_actions
                )
        exact = find_exact(results, summary.scales, sandbox)
        corrected = find_corrected(results, summary.scales, exact.returns, sandbox)
        summary.exact = replace(exact, returns=[*exact.returns, *corrected])
        summary.unjudged = judge.problems
        summary.unreached = judge.unreached
    summary.failures = _group_failures(results)
    summary.units = Units(episodes, summary.scales, results.participants)
    _count_outcomes(summary, episodes)
    _count_quality(summary, results)
    answered = summary.units.episode[results.find_places(found[0] for found in found_places)]
    for (episode, agent, chosen), unit in zip(found_places, answered.reshape(-1, 1), strict=True):
        own = summary.places.setdefault((agent, episode.game), PlaceStats(orders[agent]))
        own.add(unit, chosen)
    for agent, places, shares in count_illegal(results.reader, episodes, results.answers):
        _count_illegal(summary, episodes, agent, places, shares)
    anchor = _find_anchor(results.config)
    ranked = [game for game in summary.games if summary.is_competitive(game)]
    summary.ratings = rate_episodes(episodes, summary.units, ranked, anchor)
    if len(summary.games) > 1:
        summary.game_ratings = {
            game: rate_episodes(episodes, summary.units, [game], anchor) for game in ranked
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


def _count_answers(summary: Summary, results: Results) -> None:
    """Count what the players did, and what failed calls took."""
    for found in read_counts(results.reader):
        local = is_local(summary.participants[found.agent])
        summary.answers[found.agent, found.game].add(found, local=local)
        summary.answer_totals[found.agent].add(found, local=local)
        if found.origins:
            summary.origins[found.agent].add(found)
    for episode, call in results.failed_calls():
        agent = episode.agents[call.seat]
        summary.answers[agent, episode.game].add_failed(call)
        summary.answer_totals[agent].add_failed(call)


def _count_latencies(summary: Summary, episode: EpisodeRow, moves: Sequence[MoveRow]) -> None:
    for agent in set(episode.agents):
        own = [move for move in moves if move.agent == agent]
        summary.answers[agent, episode.game].add_latencies(own)
        summary.answer_totals[agent].add_latencies(own)


def _count_illegal(
    summary: Summary, episodes: Episodes, agent: str, places: Numbers, shares: Floats
) -> None:
    """Count a player's shares of illegal answers. places: of its episodes in the columns."""
    unit = summary.units.episode[places]
    summary.answer_totals[agent].add_episodes(unit, shares)
    for game in summary.games:
        own = episodes.where(kind.game == game for kind in episodes.kinds)[places]
        if own.any():
            summary.answers[agent, game].add_episodes(unit[own], shares[own])


def _count_quality(summary: Summary, results: Results) -> None:
    judged = [episode for episode in summary.read if episode.episode in summary.judged]
    units = summary.units.episode[results.find_places(judged)]
    for episode, unit in zip(judged, units.reshape(-1, 1), strict=True):
        regrets: defaultdict[str, list[float]] = defaultdict(list)
        for (_, seat), move in summary.judged[episode.episode].items():
            regrets[episode.agents[seat]].append(move.regret)
        for agent, found in regrets.items():
            summary.quality[agent, episode.game].add(unit, found)


def _find_places(
    episode: EpisodeRow, moves: Sequence[MoveRow], orders: Mapping[str, str]
) -> Iterator[_Found]:
    by_agent: defaultdict[str, list[ListPlace]] = defaultdict(list)
    for seat, agent in enumerate(episode.agents):
        if order := orders.get(agent):
            by_agent[agent] += find_places(episode, moves, seat, order)
    for agent, places in by_agent.items():
        if places:
            yield episode, agent, places


def _group_failures(results: Results) -> list[FailureGroup]:
    """Return the failed and forfeited episodes in groups, the largest first."""
    episodes = results.columns
    unfit = episodes.id[episodes.where(kind.status not in PLAYED for kind in episodes.kinds)]
    culprits = read_culprits(results.reader) if len(unfit) else {}
    groups: dict[tuple[str, ...], FailureGroup] = {}
    found = zip(results.reader.pick(unfit.tolist()), unfit.tolist(), strict=True)
    for episode, number in sorted(found, key=lambda row: (row[0].name, row[0].episode)):
        agents = culprits.get(number, ())
        reason = episode.reason or "no reason given"
        error = _ERROR.match(reason)
        kind = error[0] if error else episode.status
        key = (episode.status, episode.game, ", ".join(sorted(agents)), kind)
        groups.setdefault(key, FailureGroup(*key, reason)).episodes.append(episode.episode)
    return sorted(groups.values(), key=lambda group: -len(group.episodes))


def _count_outcomes(summary: Summary, episodes: Episodes) -> None:
    for kind, places in episodes.by_kind():
        scale, count = summary.scales[kind.game], len(places)
        clusters = summary.units.cluster[places]
        summary.statuses[kind.status] += count
        for seat, agent in enumerate(kind.agents):
            key = agent, kind.game
            if kind.status == "failed":
                summary.failed[key] += count
            summary.returns.setdefault(key, ReturnStats(scale)).add(kind, seat, clusters)
            if not scale.competitive:
                continue
            for counted in (
                summary.outcomes[key], summary.totals[agent], summary.seats[kind.game, seat]
            ):  # fmt: skip
                counted.add(kind, seat, clusters)
        if scale.competitive:
            for first, second, score, *_ in compare_players(kind):
                summary.pairs[first, second].add_points(score, count)
                summary.pairs[second, first].add_points(1 - score, count)
