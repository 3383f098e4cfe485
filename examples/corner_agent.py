"""An agent of your own: it prefers certain cells of a board.

Run it from this folder's parent, where Python finds `examples.corner_agent`:

    arena run --config examples/corner_agent.yaml
"""

from __future__ import annotations

from collections.abc import Sequence

from arena.agents.base import Agent, Answer, AnswerStatus, Turn
from arena.agents.calls import Ask
from arena.agents.settings import AgentSettings


class CornerAgent(Agent):
    """Plays the first preferred cell that is free, else a random one."""

    class Settings(AgentSettings):
        """prefer: cells such as (1,1), the best one first."""

        prefer: list[str]

    async def act(self, turn: Turn, before: Sequence[Answer], ask: Ask) -> Answer:
        # With `await ask(ModelCall(...))` an agent can also call models.
        cells = {action.text[1:]: action.action for action in turn.legal}
        for cell in self.settings.prefer:
            if cell in cells:
                return Answer(AnswerStatus.OK, cells[cell])
        # Use the turn's seed for anything random, so that every run is the same.
        return Answer(AnswerStatus.OK, turn.legal[turn.seed % len(turn.legal)].action)
