"""How many prompt tokens a pass reads beside running rows, from what passes cost.

Prompts get less than half of the time while rows run: so a row keeps at least half of the speed
that it has without prompts. They are read in pieces that are as large as the longest pause allows,
because a token of a small piece takes longer. Both bounds are in plain steps, so they hold for any
model and any machine.
"""

from __future__ import annotations

from collections import deque
from statistics import median

#: The time that goes to prompts, as a ratio to that of plain steps. 1 would be half of the time;
#: the difference is for the callers' own work.
_SHARE = 0.85
#: The most time that a piece adds to a pass, in plain steps. Two would make a pass of three steps.
#: But a plain step takes up to a fifth longer beside callers than without them, and measures have
#: noise.
_LONGEST = 1.3
#: Passes whose median counts. A pass during which another process had the cores changes nothing.
_PASSES = 9
#: Until a pass was measured, a prompt token is taken to cost this share of a plain step.
_FIRST_COST = 1 / 16
#: After so many pieces come two plain steps, of which the second shows what a step costs.
_PIECES = 12


class Pace:
    """Decides on the pieces beside about the same number of rows.

    A plain step after a piece takes longer than one after a plain step, because OpenVINO prepares
    each pass for its number of tokens. Prompts pay for that, too. Times are in any unit, the same
    for all.
    """

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=_PASSES)
        self._costs: deque[float] = deque(maxlen=_PASSES)
        #: Time that prompts may still take, at most that of one piece.
        self._credit = 0.0
        #: Pieces since a step was measured, and whether the last pass had one.
        self._pieces = 0
        self._had_piece = False

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
        if not self._steps or self._pieces >= _PIECES:
            return 0
        return self.piece if self._credit >= _LONGEST * self._step else 0

    def record(self, prompt_tokens: int, seconds: float) -> None:
        """Count a pass with rows, which also read `prompt_tokens` and took `seconds`."""
        changed = self._had_piece and not prompt_tokens
        self._had_piece = prompt_tokens > 0
        if not prompt_tokens and not changed:
            self._steps.append(seconds)
            self._pieces = 0
        step = self._step
        if prompt_tokens:
            self._pieces += 1
            added = max(seconds - step, 0.01 * step)
            self._costs.append(added / prompt_tokens)
            self._credit -= added
        elif changed:
            # At most a step: more is another process that had the cores.
            self._credit -= min(max(seconds - step, 0.0), step)
        most = _LONGEST * step
        self._credit = max(-most, min(self._credit + _SHARE * step, most))
