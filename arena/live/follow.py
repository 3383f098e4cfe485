"""Follows an episode that another process plays: the same code plays it again from its replies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from arena.agents.base import Agent, Answer, Turn
from arena.agents.calls import Ask, ModelCall, ModelReply
from arena.experiment.episode import Seat, play_episode, seat_players
from arena.experiment.file import Experiment
from arena.experiment.schedule import EpisodeSpec
from arena.games.game import CHANCE, Game, State
from arena.live.feed import LiveFeed
from arena.results.rows import CallKey


class Follower:
    """Plays an episode with the stored replies, and waits where one is still missing.

    Seeds decide everything else, so the position is that of the run. Nothing is sent to a model.
    view: what the page shows of the episode beside its moves.
    """

    def __init__(
        self, spec: EpisodeSpec, experiment: Experiment, feed: LiveFeed, view: Mapping[str, Any]
    ) -> None:
        self._spec = spec
        self._feed = feed
        self._view = view
        self._replies: Mapping[CallKey, ModelReply] = {}
        self._arrived = asyncio.Event()
        self._board: str | None = None
        self._before: str | None = None
        self._task = asyncio.create_task(self._play(experiment))

    def take(self, replies: Mapping[CallKey, ModelReply]) -> None:
        """Continue with the replies that are stored now."""
        self._replies = replies
        self._arrived.set()
        self._arrived = asyncio.Event()

    def close(self) -> None:
        """Stop."""
        self._task.cancel()

    async def _play(self, experiment: Experiment) -> None:
        spec = self._spec
        try:
            seats = [
                Seat(_Watched(agent, self._show), policy)
                for agent, policy in seat_players(spec, experiment.participants)
            ]
            await play_episode(spec, Game.load(spec.game), seats, self._ask_for)
        except Exception as error:  # a user's agent may raise anything
            self._feed.set({**self._feed.value, "problem": f"{type(error).__name__}: {error}"})

    def _ask_for(self, key: CallKey) -> Ask:
        async def ask(call: ModelCall) -> ModelReply:
            while (reply := self._replies.get(key)) is None:
                await self._arrived.wait()
            return reply

        return ask

    def _show(self, turn: Turn) -> None:
        board = turn.state.board()
        if board != self._board:
            self._before, self._board = self._board, board
        self._feed.set(
            {
                **self._view,
                "moves": list_moves(turn.state),
                "board": board,
                "before": self._before,
                "turn": turn.seat,
            }
        )


class _Watched(Agent):
    """A player that reports each of its turns before it takes it."""

    def __init__(self, agent: Agent, show: Any) -> None:
        super().__init__(agent.settings)
        self._agent = agent
        self._show = show

    async def act(self, turn: Turn, before: Sequence[Answer], ask: Ask) -> Answer:
        self._show(turn)
        return await self._agent.act(turn, before, ask)


def list_moves(state: State) -> list[dict[str, Any]]:
    """Return all actions so far. seat: null for a chance event."""
    return [
        {"seat": None if played.seat == CHANCE else played.seat, "text": played.text}
        for played in state.history
    ]
