"""Any game as an environment of PettingZoo (https://pettingzoo.farama.org/api/aec/).

The package `pettingzoo` must be installed: `pip install pettingzoo`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv

from arena.environments.core import GameEnvironment, Request, Result
from arena.games.game import GameError


class ArenaAECEnv(AECEnv):
    """One game for agents player_0, player_1, ..., in seat order.

    An observation is {"observation": float32 vector, "action_mask": int8 vector}: OpenSpiel's
    information state of the agent, or its observation where the game has none; the mask is all 0
    while the agent is not to move. Actions are OpenSpiel's numbers. The rewards are the returns,
    at the end. Agents that move at the same time act one after the other; neither sees the other's
    choice. infos has the agent's prompt as messages (pairs of role and content) while it is to
    move.
    """

    def __init__(self, game: str, **options: Any) -> None:
        """game, options: see GameEnvironment. Seats of opponents are not agents.

        Raises GameError, also for a game that OpenSpiel cannot describe as a vector.
        """
        super().__init__()
        self._environment = GameEnvironment(game, **options)
        raw = self._environment.game.raw
        kind = raw.get_type()
        if kind.provides_information_state_tensor:
            self._shape, self._tensor = raw.information_state_tensor_shape(), "information_state"
        elif kind.provides_observation_tensor:
            self._shape, self._tensor = raw.observation_tensor_shape(), "observation"
        else:
            raise GameError(f"{self._environment.game.name} has no observation as a vector")
        self._seats = {f"player_{seat}": seat for seat in self._environment.learners}
        self.possible_agents = list(self._seats)
        self.metadata = {"name": self._environment.game.spec, "render_modes": ["ansi"]}
        self.render_mode = "ansi"
        size = raw.num_distinct_actions()
        vector = spaces.Box(-np.inf, np.inf, (int(np.prod(self._shape)),), np.float32)
        mask = spaces.Box(0, 1, (size,), np.int8)
        self._observation_spaces = {
            agent: spaces.Dict({"observation": vector, "action_mask": mask})
            for agent in self.possible_agents
        }
        self._action_spaces = {agent: spaces.Discrete(size) for agent in self.possible_agents}
        self._now: Request | Result | None = None
        self._loop = asyncio.new_event_loop()
        self._deal = 0

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Return the space of an agent's observations."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Return the space of an agent's actions."""
        return self._action_spaces[agent]

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> None:
        """Start an episode. seed: of the deal; None: the next number."""
        self._deal = self._deal + 1 if seed is None else seed
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        self.agent_selection = self.agents[0]
        self._take(self._loop.run_until_complete(self._environment.reset(self._deal)))

    def observe(self, agent: str) -> dict[str, Any]:
        """Return what an agent sees; see the class."""
        seat, now = self._seats[agent], self._now
        mask = np.zeros(self._action_spaces[agent].n, np.int8)
        state = self._environment.state
        if isinstance(now, Request) and now.seat == seat:
            mask[[action for action, _ in now.legal]] = 1
        tensor = getattr(state.raw, f"{self._tensor}_tensor")
        seen = np.zeros(self._observation_spaces[agent]["observation"].shape, np.float32)
        if not state.is_chance:
            seen[:] = tensor(seat)
        return {"observation": seen, "action_mask": mask}

    def step(self, action: int | None) -> None:
        """Play an action of agent_selection. Raises ValueError if it is not legal."""
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self._take(self._loop.run_until_complete(self._environment.play(int(action))))  # type: ignore[arg-type]  # only a dead step has None
        self._accumulate_rewards()

    def render(self) -> str:
        """Return the position as a spectator sees it."""
        return self._environment.state.board()

    def close(self) -> None:
        """End the episode."""
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._environment.close())
            self._loop.close()

    def _take(self, now: Request | Result) -> None:
        """Show what the environment waits for, or how the episode ended."""
        self._now = now
        self.infos = {agent: {} for agent in self.agents}
        if isinstance(now, Request):
            self.agent_selection = f"player_{now.seat}"
            self.infos[self.agent_selection]["messages"] = now.messages
            return
        truncated = now.episode.status == "truncated"
        for agent, seat in self._seats.items():
            self.rewards[agent] = now.rewards[seat]
            (self.truncations if truncated else self.terminations)[agent] = True
