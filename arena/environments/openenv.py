"""Any game as an environment of OpenEnv (https://github.com/huggingface/OpenEnv), with its server.

The package `openenv` must be installed: `pip install openenv`.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app
from pydantic import Field

from arena.environments.core import GameEnvironment, Request, Result


class GameAction(Action):
    """An answer of the seat to move: text, as a model would write it, or an action's number."""

    text: str | None = None
    action: int | None = None


class GameObservation(Observation):
    """What the seat to move sees. Empty messages: the episode has ended.

    messages: role and content. legal: the legal actions' names by their numbers. attempt: 0, and
    one more after each illegal answer. reward: at the end, of the seat that answered last; rewards:
    of all seats. status: at the end, as in the arena's results.
    """

    seat: int | None = None
    messages: list[dict[str, str]] = Field(default_factory=list)
    legal: dict[int, str] = Field(default_factory=dict)
    attempt: int = 0
    rewards: list[float] | None = None
    status: str = ""


class GameState(State):
    """An episode. board: the position as a spectator sees it."""

    game: str = ""
    board: str = ""


class ArenaEnvironment(Environment[GameAction, GameObservation, GameState]):
    """One game. Every seat that no opponent plays belongs to the client, in the order of play."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, game: str, **options: Any) -> None:
        """game, options: see GameEnvironment. Raises what it raises."""
        super().__init__()
        self._environment = GameEnvironment(game, **options)
        self._id: str | None = None
        self._steps = self._deal = 0
        self._seat: int | None = None

    async def reset_async(
        self, seed: int | None = None, episode_id: str | None = None, **_: Any
    ) -> GameObservation:
        """Start an episode. seed: of the deal; None: the next number."""
        self._deal = self._deal + 1 if seed is None else seed
        self._id, self._steps, self._seat = episode_id or str(self._deal), 0, None
        return self._observe(await self._environment.reset(self._deal))

    async def step_async(
        self, action: GameAction, timeout_s: float | None = None, **_: Any
    ) -> GameObservation:
        """Play. Raises ValueError for an illegal number, or if the episode has ended."""
        if (action.text is None) == (action.action is None):
            raise ValueError("give one of text and action")
        play = self._environment.answer if action.text is not None else self._environment.play
        now = await play(action.text if action.text is not None else action.action)  # type: ignore[arg-type]  # of the method's type
        self._steps += 1
        return self._observe(now)

    def reset(self, *_: Any, **__: Any) -> GameObservation:
        """Not used: the server calls `reset_async`."""
        raise NotImplementedError("use reset_async")

    def step(self, *_: Any, **__: Any) -> GameObservation:
        """Not used: the server calls `step_async`."""
        raise NotImplementedError("use step_async")

    @property
    def state(self) -> GameState:
        """The episode."""
        environment = self._environment
        board = environment.state.board() if self._id is not None else ""
        return GameState(
            episode_id=self._id, step_count=self._steps, game=environment.game.spec, board=board
        )

    def _observe(self, now: Request | Result) -> GameObservation:
        if isinstance(now, Result):
            seat = self._environment.learners[0] if self._seat is None else self._seat
            return GameObservation(
                done=True, reward=now.rewards[seat], rewards=list(now.rewards), seat=seat,
                status=now.episode.status,
            )  # fmt: skip
        self._seat = now.seat
        return GameObservation(
            done=False,
            reward=0.0,
            seat=now.seat,
            messages=[{"role": role, "content": text} for role, text in now.messages],
            legal=dict(now.legal),
            attempt=now.attempt,
        )


def make_app(game: str, *, sessions: int = 16, **options: Any) -> FastAPI:
    """Return the server of one game. sessions: the most episodes at the same time."""
    app: FastAPI = create_fastapi_app(
        lambda: ArenaEnvironment(game, **options),
        GameAction,
        GameObservation,
        max_concurrent_envs=sessions,
        state_cls=GameState,
    )
    return app
