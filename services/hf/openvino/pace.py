"""How many prompt tokens a pass reads beside running rows, from what passes cost.

Prompts get half of the time while rows run: so a row keeps at least half of the speed that it has
without prompts, and prompts are read in pieces that are as large as the longest pause allows. Both
bounds are in plain steps, so they hold for any model and any machine.
"""

from __future__ import annotations

from collections import deque
from statistics import median

#: The time that goes to prompts, as a ratio to that of plain steps.
_SHARE = 0.85
#: The most time that a piece adds to a pass, in plain steps. Two would make a pass of three steps,
#: and every measure has some noise.
_LONGEST = 1.6
#: Passes whose median counts. A pass during which another process had the cores changes nothing.
_PASSES = 9
#: Until a pass was measured, a prompt token is taken to cost this share of a plain step.
_FIRST_COST = 1 / 16


class Pace:
    """Decides on the pieces of one engine. Times are in any unit, the same for all."""

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=_PASSES)
        self._costs: deque[float] = deque(maxlen=_PASSES)
        #: Time that prompts may still take, at most that of one piece.
        self._credit = 0.0

    @property
    def _step(self) -> float:
        return median(self._steps)

    @property
    def piece(self) -> int:
        """Tokens of a piece."""
        if not self._steps:
            return 0
        cost = median(self._costs) if self._costs else _FIRST_COST * self._step
        return max(2, int(_LONGEST * self._step / cost))

    def next_piece(self) -> int:
        """Tokens that the next pass with rows may read beside them; 0: it is a plain step."""
        if not self._steps:
            return 0  # the first pass shows what a plain step costs
        return self.piece if self._credit >= _LONGEST * self._step else 0

    def record(self, prompt_tokens: int, seconds: float) -> None:
        """Count a pass with rows, which has read so many tokens of prompts beside them."""
        if not prompt_tokens:
            self._steps.append(seconds)
        elif self._steps:
            added = max(seconds - self._step, 0.01 * self._step)
            self._costs.append(added / prompt_tokens)
            self._credit -= added
        if self._steps:
            most = _LONGEST * self._step
            self._credit = min(self._credit + _SHARE * self._step, most)
            self._credit = max(self._credit, -most)
