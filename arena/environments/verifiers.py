"""Any game as an environment of verifiers (https://github.com/PrimeIntellect-ai/verifiers).

The package `verifiers` must be installed: `pip install verifiers`. Each seat that no opponent plays
is an agent, seat0 to seat3, with its own model if its settings name one. An episode is one
game, and a seat's trace has the prompts that `arena run` would send, so each turn is a branch.

verifiers finds plugins only by module names without dots. So importing this module also registers
it as `arena_games`. For the command line of verifiers, write a module of that name with

    from arena.environments.verifiers import *
    from arena.environments.verifiers import __all__
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import verifiers.v1 as vf

from arena.environments.core import GameEnvironment, Request

__all__ = ["GameEnv", "GameTaskset", "InProcessHarness"]

#: The name of this module for verifiers.
ID = "arena_games"
sys.modules.setdefault(ID, sys.modules[__name__])


class GameTasksetConfig(vf.TasksetConfig):
    """One game; the keys of GameEnvironment, and which deals are played.

    episodes: the number of deals. first_seed: of the first deal; the next ones count up.
    """

    game: str = "tic_tac_toe"
    params: dict[str, Any] | None = None
    opponents: dict[int, dict[str, Any]] | None = None
    learner: dict[str, Any] | None = None
    max_plies: int | None = None
    episodes: int = 100
    first_seed: int = 0


class GameData(vf.TaskData):
    """A deal."""

    seed: int = 0


class GameTask(vf.Task[GameData]):
    """One episode of the game. The environment opens the conversation of each seat."""


class GameTaskset(vf.Taskset[GameTask, GameTasksetConfig]):
    """The deals."""

    def load(self) -> Iterable[GameTask]:
        """Yield a task for each deal."""
        first = self.config.first_seed
        for seed in range(first, first + self.config.episodes):
            yield GameTask(GameData(name=f"{self.config.game}/{seed}", seed=seed), self.config.task)


def _seat() -> Any:
    # By default verifiers would rent a machine for each agent.
    return vf.AgentConfig(runtime={"type": "subprocess"})


class GameEnvConfig(vf.EnvConfig):
    """The agents of the seats."""

    seat0: vf.AgentConfig = _seat()
    seat1: vf.AgentConfig = _seat()
    seat2: vf.AgentConfig = _seat()
    seat3: vf.AgentConfig = _seat()


class GameEnv(vf.Env[GameEnvConfig]):
    """Plays a game between the agents of its seats, and the opponents of the settings."""

    async def run(self, task: Any, agents: Any) -> None:
        """Play one episode. Raises ValueError for a game with more than four seats to play.

        Each seat's trace gets the reward `reward`, see docs/environments.md, and the metrics
        `plies` and `forfeited`. If a limit of verifiers stops a seat, there is no reward.
        """
        settings = self.config.taskset
        environment = GameEnvironment(
            settings.game,
            params=settings.params,
            opponents=settings.opponents,
            learner=settings.learner,
            max_plies=settings.max_plies,
        )
        seats = environment.learners
        if seats[-1] > 3:
            raise ValueError(f"{settings.game}: only the seats 0 to 3 can be agents, not {seats}")
        async with AsyncExitStack() as stack:
            stack.push_async_callback(environment.close)
            open_seats = {
                seat: await stack.enter_async_context(
                    getattr(agents, f"seat{seat}").interaction(task)
                )
                for seat in seats
            }
            now = await environment.reset(task.data.seed)
            while isinstance(now, Request):
                messages = [{"role": role, "content": text} for role, text in now.messages]
                segment = await open_seats[now.seat].turn(messages)
                if segment.terminated:
                    return
                now = await environment.answer(segment.last_reply)
            for seat, interaction in open_seats.items():
                trace = interaction.trace
                trace.record_reward("reward", now.rewards[seat])
                trace.record_metric("plies", float(len(now.moves)))
                trace.record_metric("forfeited", float(now.episode.loser == seat))


class InProcessHarness(vf.Harness[vf.HarnessConfig]):
    """Sends the messages of a turn to the seat's model, and starts no program.

    A turn does not continue the last one: its messages are the whole prompt.
    """

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self, ctx: Any, trace: Any, runtime: Any, endpoint: str, secret: str, mcp_urls: Any,
        data: Any, **_: Any,
    ) -> Any:  # fmt: skip
        """Answer a task that has a prompt."""
        system, prompt = self.resolve_prompt(data)
        messages = (
            [vf.UserMessage(content=prompt)] if isinstance(prompt, str) else list(prompt or ())
        )
        if system is not None:
            messages.insert(0, vf.SystemMessage(content=system))
        return await _ask(endpoint, secret, ctx.model, messages)

    async def resume(
        self, ctx: Any, trace: Any, runtime: Any, endpoint: str, secret: str, mcp_urls: Any,
        data: Any, messages: Any, *_: Any, **__: Any,
    ) -> Any:  # fmt: skip
        """Answer a turn."""
        return await _ask(endpoint, secret, ctx.model, messages)


async def _ask(endpoint: str, secret: str, model: str, messages: Iterable[Any]) -> Any:
    """Make the call that verifiers forwards to the model and writes into the trace."""
    body = {"model": model, "messages": [one.model_dump(exclude_none=True) for one in messages]}
    async with httpx.AsyncClient(timeout=None) as client:  # noqa: S113 - verifiers bounds the turn
        answer = await client.post(
            f"{endpoint}/chat/completions", json=body, headers={"Authorization": f"Bearer {secret}"}
        )
    return vf.ProgramResult(int(answer.is_error), "", answer.text if answer.is_error else "")


def make_env(game: str, **settings: Any) -> GameEnv:
    """Return the environment of one game. settings: the other keys of GameTasksetConfig."""
    taskset = GameTasksetConfig(id=ID, game=game, **settings)
    return GameEnv(GameEnvConfig(taskset=taskset))
