"""Reads every stored reply again, with the strict and the lenient reader: `arena audit`.

It answers two questions about the readers. Was a move played that the model did not choose? And how
many good moves were lost only because of their format? Both readers read all replies, whichever of
them the run has used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from arena.agents.base import AnswerStatus, Turn
from arena.agents.llm import list_names
from arena.agents.reply import parse_choice, parse_json, read_leniently
from arena.games.game import CHANCE, Game, State
from arena.results.rows import EpisodeRow, MoveRow

#: Reply formats whose replies are texts.
TEXTUAL = ("json", "free", "choices")


class StoredReply(NamedTuple):
    """A stored answer of a model: what the reader needs of its row."""

    ply: int
    seat: int
    attempt: int
    agent: str
    form: str
    reply: str
    status: str
    action: int | None
    policy: str | None


class Verdict(NamedTuple):
    """What both readers say of a stored reply.

    stored: its status in the results. played: the action that was played because of it.
    strict, lenient: the action that each reader finds; None if it finds none. rule: of the lenient
    reader (see ParsedReply).
    """

    agent: str
    attempt: int
    stored: str
    played: int | None
    strict: int | None
    lenient: int | None
    rule: str

    @property
    def is_unchosen(self) -> bool:
        """Whether a move was played as the model's own that the reply does not choose."""
        return self.stored == "ok" and self.played not in (self.strict, self.lenient)

    @property
    def is_lost(self) -> bool:
        """Whether the reply chooses a legal move and was not accepted."""
        return self.stored != "ok" and self.lenient is not None


@dataclass(slots=True)
class AuditCounts:
    """The verdicts of one player, counted.

    replies: read again. strict, lenient: replies in which the reader finds a legal move. first,
    first_legal: first answers of a turn, and those with a legal move by the lenient reader, which
    means the same for every reply format. lost: good moves that were not accepted. unchosen: moves
    that were played and not chosen. rules: how often each rule of the lenient reader applied.
    """

    replies: int = 0
    strict: int = 0
    lenient: int = 0
    first: int = 0
    first_legal: int = 0
    lost: int = 0
    unchosen: int = 0
    rules: Counter[str] = field(default_factory=Counter)

    def interval(self, count: int) -> tuple[float, float]:
        """The 95 % interval of a share of the replies, Wilson's score interval (Wilson 1927)."""
        from scipy.stats import binomtest  # takes a second to import

        ends = binomtest(count, self.replies).proportion_ci(method="wilson")
        return float(ends.low), float(ends.high)

    def add(self, verdict: Verdict) -> None:
        """Count a verdict."""
        found = verdict.lenient is not None
        self.replies += 1
        self.strict += verdict.strict is not None
        self.lenient += found
        self.first += verdict.attempt == 0
        self.first_legal += verdict.attempt == 0 and found
        self.lost += verdict.is_lost
        self.unchosen += verdict.is_unchosen
        self.rules[verdict.rule or "none"] += 1


class AuditError(ValueError):
    """An episode cannot be audited. The message says why."""


#: Audits the replies of an episode: audit_episode, or a Sandbox's call of it.
Auditor = Callable[[str, Sequence[Mapping[int, int]], Sequence[StoredReply]], list[Verdict] | str]


def audit(
    episodes: Iterable[tuple[EpisodeRow, Sequence[MoveRow]]],
    formats: Mapping[str, str],
    audit_one: Auditor | None = None,
) -> tuple[dict[str, AuditCounts], dict[str, str]]:
    """Audit all replies. Returns the counts by agent, and the episodes that could not be audited.

    episodes: with their moves in the order of play, all columns. formats: the reply format of each
    agent; others are left out. audit_one: plays a game whose file may come from somebody else; by
    default in this process.
    """
    counts: dict[str, AuditCounts] = {}
    problems: dict[str, str] = {}
    for episode, moves in episodes:
        replies = list(_list_replies(moves, formats))
        if not replies:
            continue
        found = (audit_one or audit_episode)(episode.game, _list_plies(moves), replies)
        if isinstance(found, str):
            problems[episode.episode] = found
            continue
        for verdict in found:
            counts.setdefault(verdict.agent, AuditCounts()).add(verdict)
    return counts, problems


def audit_episode(
    game: str, plies: Sequence[Mapping[int, int]], replies: Sequence[StoredReply]
) -> list[Verdict] | str:
    """Play an episode again and read its replies; a text says why that is not possible.

    Never raises, so that it can run in a Sandbox.
    """
    try:
        return list(_read_again(Game.load(game), plies, replies))
    except Exception as error:  # OpenSpiel's games raise errors of many types
        return f"{type(error).__name__}: {error}"


def _read_again(
    game: Game, plies: Sequence[Mapping[int, int]], replies: Sequence[StoredReply]
) -> Iterator[Verdict]:
    by_ply = {ply: list(group) for ply, group in groupby(replies, attrgetter("ply"))}
    state = game.new()
    for ply in range(len(plies) + 1):
        for reply in by_ply.get(ply, ()):
            yield _judge(game, state, reply)
        if ply < len(plies) and set(plies[ply]) == set(_movers(state)):
            state.apply(plies[ply])


def _movers(state: State) -> tuple[int, ...]:
    return (CHANCE,) if state.is_chance else state.players_to_move()


def _judge(game: Game, state: State, reply: StoredReply) -> Verdict:
    if reply.seat not in state.players_to_move():
        raise AuditError(f"seat {reply.seat} does not move at ply {reply.ply}")
    turn = Turn(game, state, reply.seat, reply.ply, state.legal_actions(reply.seat), seed=0)
    parse = parse_choice if reply.form == "choices" else parse_json
    strict = parse(reply.reply, turn.legal)
    lenient = strict
    if strict.status is not AnswerStatus.OK:
        lenient = read_leniently(reply.reply, list_names(turn))
    # A random action in place of an illegal one is not played as the model's own.
    played = None if reply.policy else reply.action
    return Verdict(
        reply.agent, reply.attempt, reply.status, played, strict.action, lenient.action,
        lenient.rule,
    )  # fmt: skip


def _list_replies(moves: Iterable[MoveRow], formats: Mapping[str, str]) -> Iterator[StoredReply]:
    for move in moves:
        form = formats.get(move.agent or "")
        # An error is a call that failed; an answer without a call is not a model's.
        if form in TEXTUAL and move.model and move.status != "error":
            yield StoredReply(
                move.ply, move.seat, move.attempt, move.agent or "", form, move.reply or "",
                move.status, move.action, move.policy,
            )  # fmt: skip


def _list_plies(moves: Iterable[MoveRow]) -> list[dict[int, int]]:
    """The actions of each ply. The last ply of a forfeited episode may lack one."""
    plies = []
    for _, rows in groupby(moves, attrgetter("ply")):
        actions = {row.seat: row.action for row in rows}
        plies.append({seat: action for seat, action in actions.items() if action is not None})
    return plies
