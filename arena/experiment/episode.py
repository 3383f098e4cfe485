"""Plays one episode from the first position to its row in the results."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from arena.agents.base import Agent, Answer, AnswerStatus, Ending, Turn
from arena.agents.calls import Ask, describe_usage
from arena.agents.registry import build_agent
from arena.agents.settings import AgentSettings, Policy
from arena.experiment.schedule import EpisodeSpec, turn_seed
from arena.games.game import CHANCE, Game
from arena.plugins import PluginError
from arena.results.reader import explain_unusable
from arena.results.rows import CallKey, EpisodeRow, MoveRow
from arena_llm import ArenaError


class Seat(NamedTuple):
    """The player of a seat: one Agent object for each seat of each episode."""

    agent: Agent
    policy: Policy = Policy()


class TurnResult(NamedTuple):
    """A turn that is over: its rows, and the action or the status that ended the episode."""

    rows: list[MoveRow]
    action: int | None = None
    ended: str = ""
    reason: str = ""


def seat_players(spec: EpisodeSpec, participants: Mapping[str, AgentSettings]) -> list[Seat]:
    """The players of an episode, in seat order."""
    players = [participants[name] for name in spec.agents]
    return [Seat(build_agent(settings), settings.policy) for settings in players]


async def play_episode(
    spec: EpisodeSpec, game: Game, seats: Sequence[Seat], ask_for: Callable[[CallKey], Ask]
) -> tuple[EpisodeRow, list[MoveRow]]:
    """Play an episode to its end. Returns its row and all of its moves.

    A call that fails (ArenaError) gives the episode the status failed. A game that is not
    over after max_plies is truncated; its returns so far count. Every other exception of
    agents and `ask_for` is raised.
    """
    episode = _Episode(spec, game, seats, ask_for)
    status, reason = "", ""
    try:
        row, moves = await episode.play()
        status, reason = row.status, row.reason or ""
        return row, moves
    finally:
        for seat, (agent, _) in enumerate(seats):
            agent.finish(Ending(game, episode.state, seat, spec.agents, status, reason))


class _Episode:
    def __init__(
        self,
        spec: EpisodeSpec,
        game: Game,
        seats: Sequence[Seat],
        ask_for: Callable[[CallKey], Ask],
    ) -> None:
        self._spec = spec
        self._game = game
        self._seats = seats
        self._ask_for = ask_for
        self.state = game.new()
        self._chance = random.Random(spec.seed)  # noqa: S311 - repeatable, not secret
        self._moves: list[MoveRow] = []
        self._ply = 0

    async def play(self) -> tuple[EpisodeRow, list[MoveRow]]:
        state = self.state
        while not state.is_terminal:
            if self._ply == self._spec.max_plies:
                # Another attempt would end here too, so this is a result, not a failure.
                reason = f"max_plies: not over after {self._ply} plies"
                return self._result("truncated", reason)
            if state.is_chance:
                self._draw()
            elif ended := await self._move():
                return ended
            self._ply += 1
        return self._result("finished")

    def _result(self, status: str, reason: str | None = None) -> tuple[EpisodeRow, list[MoveRow]]:
        """Return the row of a game that was played, as failed if its returns are no numbers."""
        returns = self.state.returns()
        if problem := explain_unusable(status, len(self._spec.agents), None, returns):
            return self._row("failed", reason=problem)
        return self._row(status, reason=reason, returns=returns)

    def _draw(self) -> None:
        action, text = self.state.draw_chance(self._chance)
        self._moves.append(
            MoveRow(
                self._spec.episode, self._ply, CHANCE, 0, "ok",
                action=action, action_text=text, board=self.state.board(),
            )
        )  # fmt: skip
        self.state.apply({CHANCE: action})

    async def _move(self) -> tuple[EpisodeRow, list[MoveRow]] | None:
        """Play one ply. Returns the result if the episode ends because a player failed."""
        seats = self.state.players_to_move()
        turns = await self._take_turns(seats, self.state.board())
        self._moves += [row for turn in turns for row in turn.rows]
        for status in ("failed", "forfeited"):
            at_fault = [
                (seat, turn.reason)
                for seat, turn in zip(seats, turns, strict=True)
                if turn.ended == status
            ]
            if at_fault:
                reason = "; ".join(f"seat {seat}: {why}" for seat, why in at_fault)
                # If several players forfeit at the same ply, nobody is the loser.
                alone = status == "forfeited" and len(at_fault) == 1
                return self._row(status, reason=reason, loser=at_fault[0][0] if alone else None)
        self.state.apply(
            {seat: turn.action for seat, turn in zip(seats, turns, strict=True)}  # type: ignore[misc]  # all have an action here
        )
        return None

    async def _take_turns(self, seats: Sequence[int], board: str) -> list[TurnResult]:
        if len(seats) == 1:
            return [await self._take_turn(seats[0], board)]
        # Wait for all of them, so that every reply that was paid for is stored.
        results = await asyncio.gather(
            *(self._take_turn(seat, board) for seat in seats), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results  # type: ignore[return-value]  # no exception is left

    async def _take_turn(self, seat: int, board: str) -> TurnResult:
        agent, policy = self._seats[seat]
        legal = self.state.legal_actions(seat)
        texts = dict(legal)
        turn = Turn(
            self._game,
            self.state,
            seat,
            self._ply,
            legal,
            turn_seed(self._spec.seed, seat, self._ply),
            self._spec.agents,
            self._spec.number,
        )
        blank = MoveRow(
            self._spec.episode, self._ply, seat, attempt=0, status="",
            agent=self._spec.agents[seat], legal_actions=legal, board=board,
        )  # fmt: skip
        rows: list[MoveRow] = []
        answers: list[Answer] = []
        while True:
            number = len(answers)
            key = CallKey(self._spec.episode, self._ply, seat, number)
            try:
                answer = await agent.act(turn, answers, self._ask_for(key))
            except ArenaError as error:
                why = f"{error.code} {error}"
                failed = replace(blank, attempt=number, status="error", problem=why)
                rows.append(replace(failed, **_failure_columns(error)))
                return TurnResult(rows, ended="failed", reason=why)
            _check_answer(agent, answer, texts)
            action, policy_step = answer.action, None
            if answer.status is not AnswerStatus.OK:
                policy_step = policy.after(number)
                action = _draw_action(turn) if policy_step == "random" else None
            rows.append(
                replace(
                    blank,
                    attempt=number,
                    status=answer.status.value,
                    policy=policy_step,
                    action=action,
                    action_text=None if action is None else texts[action],
                    **_columns(answer),
                )
            )
            if action is not None:
                return TurnResult(rows, action)
            if policy_step == "forfeit":
                why = f"{answer.status}: {answer.problem}"
                return TurnResult(rows, ended="forfeited", reason=why)
            answers.append(answer)

    def _row(self, status: str, **columns: Any) -> tuple[EpisodeRow, list[MoveRow]]:
        spec = self._spec
        row = EpisodeRow(
            spec.episode, spec.game, spec.number, spec.agents, spec.seed, status, self._ply,
            versions=spec.versions, **columns,
        )  # fmt: skip
        return row, self._moves


def _check_answer(agent: Agent, answer: Answer, legal: Mapping[int, str]) -> None:
    """Raise PluginError if an agent has returned something else than an answer."""
    where = f"{type(agent).__module__}.{type(agent).__qualname__}.act returned"
    if not isinstance(answer, Answer):
        raise PluginError(f"{where} {type(answer).__name__}: return an arena.agents.base.Answer")
    if not isinstance(answer.status, AnswerStatus):
        raise PluginError(f"{where} the status {answer.status!r}: return an AnswerStatus")
    if answer.status is AnswerStatus.OK and answer.action not in legal:
        raise PluginError(
            f"{where} the action {answer.action!r}, which is not legal: return the action of one "
            "of turn.legal, or the status ILLEGAL"
        )
    for name in ("problem", "prompt", "reply", "reasoning", "reading"):
        if not isinstance(getattr(answer, name), str):
            raise PluginError(f"{where} an Answer whose {name} is not text")


def _draw_action(turn: Turn) -> int:
    return random.Random(turn.seed).choice(turn.legal).action  # noqa: S311 - repeatable, not secret


#: Columns that a row copies from an answer, from its model's reply, and from who served that.
_ANSWER_COLUMNS = ("problem", "prompt", "reply", "reasoning", "reading")
_CALL_COLUMNS = (
    "model", "latency_ms", "finish_reason", "prompt_tokens", "completion_tokens",
    "reasoning_tokens", "cost_picousd", "cost_basis", "attempts", "failed_attempts_picousd",
    "request_id", "enforcement", "tokens", "prompt_ids", "failed_models",
)  # fmt: skip
_SERVED_COLUMNS = (
    "provider", "region", "precision", "model_revision", "system_fingerprint", "engine",
    "replica", "service_version",
)  # fmt: skip


def _columns(answer: Answer) -> dict[str, Any]:
    """The columns of an answer. Empty texts become NULL, which they are by default."""
    columns = _copy(answer, _ANSWER_COLUMNS)
    if (call := answer.call) is not None:
        columns |= _copy(call, _CALL_COLUMNS) | _copy(call.served_by, _SERVED_COLUMNS)
        columns["replayed"] = int(call.replayed)
        if call.cached:
            columns["cached"] = 1
    return columns


def _failure_columns(error: ArenaError) -> dict[str, Any]:
    """The columns of a failed call: what it took, and who was asked."""
    if (report := error.report) is None:
        return {}
    columns = describe_usage(report.usage, report.attempts) | {"request_id": report.request_id}
    columns = {name: value for name, value in columns.items() if name in _CALL_COLUMNS}
    columns |= _copy(report.served_by, _SERVED_COLUMNS)
    return {name: value for name, value in columns.items() if value not in ("", None)}


def _copy(values: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(values, name)) not in ("", None)}
