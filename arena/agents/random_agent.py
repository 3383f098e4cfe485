"""An agent that plays at random."""

from __future__ import annotations

import random
from collections.abc import Sequence

from arena.agents.base import Agent, Answer, AnswerStatus, Turn
from arena.agents.calls import Ask


class RandomAgent(Agent):
    """Plays a legal action drawn uniformly with the turn's seed."""

    async def act(self, turn: Turn, before: Sequence[Answer], ask: Ask) -> Answer:
        rng = random.Random(turn.seed)  # noqa: S311 - repeatable, not secret
        return Answer(AnswerStatus.OK, rng.choice(turn.legal).action)
