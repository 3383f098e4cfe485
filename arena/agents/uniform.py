"""A player that plays at random."""

from __future__ import annotations

import random
from collections.abc import Sequence

from arena.agents.base import Agent, Attempt, Status, Turn
from arena.calls import Ask


class RandomAgent(Agent):
    """Each legal action is as likely as the others; the turn's seed decides."""

    async def act(self, turn: Turn, before: Sequence[Attempt], ask: Ask) -> Attempt:
        rng = random.Random(turn.seed)  # noqa: S311 - repeatable, not secret
        return Attempt(Status.OK, rng.choice(turn.legal).action)
