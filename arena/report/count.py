"""Counts what a results file contains: outcomes, answers, failures."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from arena.games.sandbox import Sandbox
from arena.report.load import Results
from arena.report.origins import Origins
from arena.report.ratings import Rating, compare_players, rate
from arena.report.replay import VerifiedReplay, verify
from arena.results.rows import PLAYED, EpisodeRow, FailedCallRow, ModelRow, MoveRow
from arena_llm.types import FinishReason

#: A stored call error starts with its code and reason: "CODE REASON message".
_ERROR = re.compile(r"[A-Z_]+( [A-Z_]+)?\b")


class SeatOutcome(StrEnum):
    """The outcome of an episode for one seat.

    With more than two players, a shared first place is a draw.
    """

    WIN = "win"
    DRAW = "draw"
    LOSS = "loss"
    FAILED = "failed"


def find_outcome(episode: EpisodeRow, seat: int) -> SeatOutcome | None:
    """Return a seat's outcome, by the returns or by who forfeited; None with only one player.

    If several seats forfeited at the same time (loser is None), all seats lose.
    """
    if episode.status == "failed":
        return SeatOutcome.FAILED
    if len(episode.agents) == 1:
        return SeatOutcome.LOSS if episode.status == "forfeited" else None
    if episode.status == "forfeited":
        return SeatOutcome.LOSS if episode.loser in (seat, None) else SeatOutcome.WIN
    returns = episode.returns or ()
    own, others = returns[seat], returns[:seat] + returns[seat + 1 :]
    if own > max(others):
        return SeatOutcome.WIN
    return SeatOutcome.LOSS if own < max(others) else SeatOutcome.DRAW


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `total`, with a 95 % interval.

    The interval is Wilson's score interval (Wilson 1927), which is also right for small
    numbers and near 0 or 1.
    """

    count: int
    total: int

    @property
    def value(self) -> float | None:
        """The share; None if the total is 0."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval's ends; None if the total is 0."""
        if not self.total:
            return None
        # Imported here because the import takes longer than most commands.
        from scipy.stats import binomtest

        low, high = binomtest(self.count, self.total).proportion_ci(method="wilson")
        return float(low), float(high)


@dataclass(slots=True)
class WinDrawLoss:
    """Counted outcomes.

    losses include forfeits. returns: the returns of the finished and truncated episodes.
    """

    wins: int = 0
    draws: int = 0
    losses: int = 0
    forfeits: int = 0
    failed: int = 0
    returns: list[float] = field(default_factory=list)

    def add(self, episode: EpisodeRow, seat: int) -> None:
        """Count an episode for one of its seats."""
        match find_outcome(episode, seat):
            case SeatOutcome.WIN:
                self.wins += 1
            case SeatOutcome.DRAW:
                self.draws += 1
            case SeatOutcome.LOSS:
                self.losses += 1
            case SeatOutcome.FAILED:
                self.failed += 1
        self.forfeits += episode.status == "forfeited" and episode.loser in (seat, None)
        if episode.status in PLAYED and episode.returns is not None:
            self.returns.append(episode.returns[seat])

    @property
    def games(self) -> int:
        """The episodes with an outcome: failed episodes have none."""
        return self.wins + self.draws + self.losses

    @property
    def score(self) -> float | None:
        """Wins and half the draws, as a share of the games."""
        return (self.wins + self.draws / 2) / self.games if self.games else None

    @property
    def mean_return(self) -> float | None:
        """The mean return of the finished and truncated episodes."""
        return sum(self.returns) / len(self.returns) if self.returns else None


@dataclass(slots=True)
class AnswerStats:
    """A player's turns, and the answers of its model.

    turns: a turn may take several answers. calls: answers of models; latencies (ms), tokens
    and cost belong to them. first_legal: turns whose first answer was legal. policies: what
    was done about illegal answers. ends: why replies ended, other than by themselves.
    cost_picousd: in 10^-12 US dollars. uncounted, unpriced: calls with unknown tokens, and with
    unknown cost. reasoned: calls whose reasoning tokens are known. replayed: calls whose reply
    was that of an earlier call. retried: calls with several requests to the
    provider; failed_attempts_picousd: what those of them cost that failed.
    """

    turns: int = 0
    first_legal: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    policies: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    latencies: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    reasoned: int = 0
    uncounted: int = 0
    cost_picousd: int = 0
    unpriced: int = 0
    replayed: int = 0
    retried: int = 0
    failed_attempts_picousd: int = 0

    def add(self, move: MoveRow) -> None:
        """Count one row of moves."""
        self.turns += move.attempt == 0
        self.first_legal += move.attempt == 0 and move.status == "ok"
        self.statuses[move.status] += 1
        if move.policy:
            self.policies[move.policy] += 1
        if not move.model:
            return  # what a failed call took is in the table failed_calls
        if move.latency_ms is not None:
            self.latencies.append(move.latency_ms)
        self.prompt_tokens += move.prompt_tokens or 0
        self.completion_tokens += move.completion_tokens or 0
        self.reasoning_tokens += move.reasoning_tokens or 0
        self.cost_picousd += move.cost_picousd or 0
        self.retried += (move.attempts or 0) > 1
        self.failed_attempts_picousd += move.failed_attempts_picousd or 0
        self.calls += 1
        self.reasoned += move.reasoning_tokens is not None
        self.uncounted += move.prompt_tokens is None or move.completion_tokens is None
        self.unpriced += move.cost_picousd is None
        self.replayed += bool(move.replayed)
        if move.finish_reason not in (None, FinishReason.STOP):
            self.ends[move.finish_reason] += 1

    def add_failed(self, call: FailedCallRow) -> None:
        """Count what a failed call took. It is not an answer."""
        self.prompt_tokens += call.prompt_tokens or 0
        self.completion_tokens += call.completion_tokens or 0
        self.cost_picousd += call.cost_picousd or 0

    def __iadd__(self, other: AnswerStats) -> AnswerStats:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    @property
    def errors(self) -> int:
        """Calls that failed. They are not answers."""
        return self.statuses["error"]

    @property
    def unparseable(self) -> int:
        """Answers in a wrong format."""
        return self.statuses["unparseable"]

    @property
    def illegal(self) -> Share:
        """Models' answers that are illegal actions or in a wrong format."""
        return Share(self.statuses["illegal"] + self.unparseable, self.calls)

    @property
    def priced(self) -> int:
        """Calls with known cost."""
        return self.calls - self.unpriced

    def percentile(self, percent: float) -> float | None:
        """Return a percentile of the latencies, in ms."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else None

    def per_turn(self, total: float) -> float | None:
        """Return a total divided by the number of turns."""
        return total / self.turns if self.turns else None


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

    seats: by game and seat. pairs: outcomes of the first agent against the second. ratings:
    over all games; game_ratings: by game, if there are several. replays: of the finished and
    truncated episodes. origins: who answered for an agent.
    """

    name: str
    config: str
    participants: Mapping[str, ModelRow]
    unfinished: int
    games: list[str] = field(default_factory=list)
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
    answers: dict[tuple[str, str], AnswerStats] = field(
        default_factory=lambda: defaultdict(AnswerStats)
    )
    answer_totals: dict[str, AnswerStats] = field(default_factory=lambda: defaultdict(AnswerStats))
    origins: dict[str, Origins] = field(default_factory=lambda: defaultdict(Origins))
    failures: list[FailureGroup] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)
    game_ratings: dict[str, list[Rating]] = field(default_factory=dict)
    replays: dict[str, VerifiedReplay] = field(default_factory=dict)

    @property
    def total(self) -> AnswerStats:
        """All players' answers together."""
        total = AnswerStats()
        for answers in self.answer_totals.values():
            total += answers
        return total

    def find_outcomes(self, agent: str, game: str) -> WinDrawLoss:
        """Return an agent's outcomes in a game; in all games if it is empty."""
        return self.outcomes[agent, game] if game else self.totals[agent]

    @property
    def unverified(self) -> dict[str, str]:
        """Episodes whose stored returns OpenSpiel does not confirm, with the reason."""
        return {key: replay.problem for key, replay in self.replays.items() if replay.problem}


def summarise(results: Results) -> Summary:
    """Count everything in one pass over the moves, and verify every result."""
    summary = Summary(results.name, results.config, results.participants, results.unfinished)
    summary.games = sorted({episode.game for episode in results.episodes})
    failures: dict[tuple[str, ...], FailureGroup] = {}
    with closing(Sandbox()) as sandbox:
        for episode, moves in results.light_moves():
            summary.statuses[episode.status] += 1
            _count_outcomes(summary, episode)
            culprits = set()
            for move in moves:
                if move.agent is not None:
                    summary.answers[move.agent, episode.game].add(move)
                    summary.answer_totals[move.agent].add(move)
                    if move.model:
                        summary.origins[move.agent].add(move)
                if move.status == "error" or move.policy == "forfeit":
                    culprits.add(move.agent or "")
            if episode.status in PLAYED:
                summary.replays[episode.episode] = verify(episode, moves, sandbox.play_actions)
                continue
            reason = episode.reason or "no reason given"
            error = _ERROR.match(reason)
            kind = error[0] if error else episode.status
            key = (episode.status, episode.game, ", ".join(sorted(culprits)), kind)
            failure = failures.setdefault(key, FailureGroup(*key, reason))
            failure.episodes.append(episode.episode)
    for episode, call in results.failed_calls():
        agent = episode.agents[call.seat]
        summary.answers[agent, episode.game].add_failed(call)
        summary.answer_totals[agent].add_failed(call)
    summary.failures = sorted(failures.values(), key=lambda failure: -len(failure.episodes))
    summary.ratings = rate(results.episodes)
    if len(summary.games) > 1:
        summary.game_ratings = {
            game: rate(episode for episode in results.episodes if episode.game == game)
            for game in summary.games
        }
    return summary


def _count_outcomes(summary: Summary, episode: EpisodeRow) -> None:
    for seat, agent in enumerate(episode.agents):
        for outcomes in (
            summary.outcomes[agent, episode.game],
            summary.totals[agent],
            summary.seats[episode.game, seat],
        ):
            outcomes.add(episode, seat)
    for first, second, score in compare_players(episode):
        for pair, points in (((first, second), score), ((second, first), 1 - score)):
            summary.pairs[pair].wins += points == 1
            summary.pairs[pair].draws += points == 0.5
            summary.pairs[pair].losses += points == 0
