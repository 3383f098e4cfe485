"""Playing one episode: from the first position to its row, whatever the players answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from arena.agents.base import Agent, Attempt, Status, Turn
from arena.agents.config import AgentConfig, LlmConfig
from arena.agents.registry import build
from arena.calls import Ask
from arena.experiment.policy import Policy
from arena.experiment.schedule import EpisodeSpec, turn_seed
from arena.games.game import CHANCE, Game
from arena.results.rows import CallKey, EpisodeRow, MoveRow
from arena_llm import ArenaError


class Seat(NamedTuple):
    """Who sits there: one Agent object for each seat of each episode."""

    agent: Agent
    policy: Policy = Policy()


class _Taken(NamedTuple):
    """A turn that is over: its rows; the action, or what ended the episode and why."""

    rows: list[MoveRow]
    action: int | None = None
    ended: str = ""
    reason: str = ""


def seated(spec: EpisodeSpec, participants: Mapping[str, AgentConfig]) -> list[Seat]:
    """The players of an episode, in seat order."""
    configs = [participants[name] for name in spec.agents]
    return [
        Seat(build(one), Policy.parse(one.on_illegal) if isinstance(one, LlmConfig) else Policy())
        for one in configs
    ]


async def play_episode(
    spec: EpisodeSpec, game: Game, seats: Sequence[Seat], ask_for: Callable[[CallKey], Ask]
) -> tuple[EpisodeRow, list[MoveRow]]:
    """Play to the end, and tell all that happened.

    A call that fails (ArenaError) makes the episode one that failed. A game that has not
    ended within max_plies is truncated: its returns so far count. Raises what else comes
    out of agents and `ask_for`.
    """
    return await _Episode(spec, game, seats, ask_for).play()


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
        self._state = game.new()
        self._chance = random.Random(spec.seed)  # noqa: S311 - repeatable, not secret
        self._moves: list[MoveRow] = []
        self._ply = 0

    async def play(self) -> tuple[EpisodeRow, list[MoveRow]]:
        state = self._state
        while not state.is_terminal:
            if self._ply == self._spec.max_plies:
                # Played again it would end here again, so it is a result and no failure.
                reason = f"max_plies: no end after {self._ply} plies"
                return self._row("truncated", reason=reason, returns=state.returns())
            if state.is_chance:
                self._draw()
            elif ended := await self._move():
                return ended
            self._ply += 1
        return self._row("finished", returns=state.returns())

    def _draw(self) -> None:
        action, text = self._state.draw_chance(self._chance)
        self._moves.append(
            MoveRow(
                self._spec.episode, self._ply, CHANCE, 0, "ok",
                action=action, action_text=text, board=self._state.board(),
            )
        )  # fmt: skip
        self._state.apply({CHANCE: action})

    async def _move(self) -> tuple[EpisodeRow, list[MoveRow]] | None:
        """One ply of those who are to move; the end of the episode, if it is one."""
        seats = self._state.players_to_move()
        turns = await self._turns(seats, self._state.board())
        self._moves += [row for turn in turns for row in turn.rows]
        for status in ("failed", "forfeited"):
            at_fault = [
                (seat, turn.reason)
                for seat, turn in zip(seats, turns, strict=True)
                if turn.ended == status
            ]
            if at_fault:
                reason = "; ".join(f"seat {seat}: {why}" for seat, why in at_fault)
                # Of several who forfeit at once, none has lost to another.
                alone = status == "forfeited" and len(at_fault) == 1
                return self._row(status, reason=reason, loser=at_fault[0][0] if alone else None)
        self._state.apply(
            {seat: turn.action for seat, turn in zip(seats, turns, strict=True)}  # type: ignore[misc]  # all have one by now
        )
        return None

    async def _turns(self, seats: Sequence[int], board: str) -> list[_Taken]:
        if len(seats) == 1:
            return [await self._turn(seats[0], board)]
        # Each one is waited for: what it was answered and paid for is to be kept.
        taken = await asyncio.gather(
            *(self._turn(seat, board) for seat in seats), return_exceptions=True
        )
        for turn in taken:
            if isinstance(turn, BaseException):
                raise turn
        return taken  # type: ignore[return-value]  # no exception is among them

    async def _turn(self, seat: int, board: str) -> _Taken:
        agent, policy = self._seats[seat]
        legal = self._state.legal_actions(seat)
        turn = Turn(
            self._game, self._state, seat, self._ply, legal, turn_seed(self._spec, seat, self._ply)
        )
        blank = MoveRow(
            self._spec.episode, self._ply, seat, attempt=0, status="",
            agent=self._spec.agents[seat], legal_actions=legal, board=board,
        )  # fmt: skip
        rows: list[MoveRow] = []
        before: list[Attempt] = []
        while True:
            number = len(before)
            key = CallKey(self._spec.episode, self._ply, seat, number)
            try:
                attempt = await agent.act(turn, before, self._ask_for(key))
            except ArenaError as error:
                why = f"{error.code} {error}"
                rows.append(replace(blank, attempt=number, status="error", problem=why))
                return _Taken(rows, ended="failed", reason=why)
            action, then = attempt.action, None
            if attempt.status is not Status.OK:
                then = policy.after(number)
                action = _drawn(turn) if then == "random" else None
            rows.append(
                replace(
                    blank,
                    attempt=number,
                    status=attempt.status.value,
                    policy=then,
                    action=action,
                    action_text=None if action is None else dict(legal)[action],
                    **_columns(attempt),
                )
            )
            if action is not None:
                return _Taken(rows, action)
            if then == "forfeit":
                why = f"{attempt.status}: {attempt.problem}"
                return _Taken(rows, ended="forfeited", reason=why)
            before.append(attempt)

    def _row(self, status: str, **columns: Any) -> tuple[EpisodeRow, list[MoveRow]]:
        spec = self._spec
        row = EpisodeRow(
            spec.episode, spec.game, spec.number, spec.agents, spec.seed, status, self._ply,
            **columns,
        )  # fmt: skip
        return row, self._moves


def _drawn(turn: Turn) -> int:
    return random.Random(turn.seed).choice(turn.legal).action  # noqa: S311 - repeatable, not secret


#: What a row has of an attempt as it is; empty texts are NULL.
_OF_ATTEMPT = (
    "problem", "prompt", "reply", "reasoning", "model", "latency_ms",
    "prompt_tokens", "completion_tokens", "reasoning_tokens", "cost_usd",
)  # fmt: skip


def _columns(attempt: Attempt) -> dict[str, Any]:
    values = ((name, getattr(attempt, name)) for name in _OF_ATTEMPT)
    return {name: None if value == "" else value for name, value in values}
