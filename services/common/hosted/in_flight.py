"""Learns whether a provider bounds the calls in flight, from how many there were when it refused.

A rate alone suits such a provider badly, because answers differ in length. By Erlang's loss
formula, 20 places that get calls at the mean rate they can serve refuse one in six and are 84 %
busy.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

#: Refusals that are compared, at least and at most.
_COMPARED, _MOST_COMPARED = 5, 200
#: Calls that must have been let in between these refusals: this many, and this many times the
#: calls in flight, whose number changes slowly.
_BETWEEN, _TURNS = 60, 3
#: How far above the lowest refusal the others may lie, because answers cross with calls on their
#: way: one call, if the lowest is at least 10, and a share of it.
_SLACK, _SLACK_FROM, _SLACK_SHARE = 1, 10, 0.02
#: The bound grows after this many calls have been let in at it.
_GROWS_AFTER = 30
#: More refusals than this, plus this share of the calls let in, mean that the bound is wrong.
_WRONG, _WRONG_SHARE = 5, 0.15
#: The bound does not hold if a call is let in with more in flight than this multiple of the lowest
#: refusal, plus this number.
_ABOVE, _ABOVE_BY = 1.1, 2
#: Refusals in a row that the bound explains. More of them mean that nothing is let in.
_IN_A_ROW = 2
#: Seconds without a bound after a wrong one. They double each time, up to the maximum.
_FORBIDDEN, _MAX_FORBIDDEN = 30.0, 600.0


class _Refusal(NamedTuple):
    """in_flight: calls when it was sent. let_in: calls since the refusal before. highest: the most
    of these in flight."""

    in_flight: int
    let_in: int
    highest: int


class InFlightBound:
    """The learned bound on calls in flight of one model with one key.

    bound: infinite if there is none.
    """

    def __init__(self) -> None:
        self.bound = math.inf
        self._refusals: deque[_Refusal] = deque(maxlen=_MOST_COMPARED)
        self._let_in = self._highest = 0
        self._lowest = 0.0  # refusals with fewer calls in flight have another reason
        self._step = 1
        self._at_bound = 0  # calls let in at the bound since it changed
        self._total = self._refused = self._in_a_row = 0  # since the bound was found
        self._allowed_at = -math.inf  # when a bound may be found again
        self._forbidden = _FORBIDDEN

    def let_in(self, in_flight: int, now: float) -> None:
        """A call was let in. in_flight: calls in flight when it was sent, with itself."""
        self._let_in += 1
        self._highest = max(self._highest, in_flight)
        self._in_a_row = 0
        if math.isinf(self.bound):
            return
        if in_flight > _ABOVE * self._lowest + _ABOVE_BY:
            self._drop(now)
            return
        self._total += 1
        self._at_bound += in_flight >= self.bound
        if self._at_bound >= _GROWS_AFTER:
            self.bound += self._step
            self._step *= 2
            self._at_bound = 0

    def refuse(self, in_flight: int, now: float) -> bool:
        """A call was refused. Returns whether the bound explains it."""
        self._refusals.append(_Refusal(in_flight, self._let_in, self._highest))
        self._let_in = self._highest = 0
        if math.isinf(self.bound):
            if now < self._allowed_at or not self._find():
                return False
            self._total = self._refused = self._in_a_row = 0
        self._refused += 1
        self._in_a_row += 1
        excess = self._refused > _WRONG + _WRONG_SHARE * self._total
        if excess or in_flight < self._lowest:
            self._drop(now)
            return False
        if self._in_a_row > _IN_A_ROW:
            return False
        self.bound = max(1, in_flight - 1)
        self._step, self._at_bound = 1, 0
        return True

    def _drop(self, now: float) -> None:
        """Forget a bound that does not hold, or that no longer holds."""
        self.bound = math.inf
        self._refusals.clear()
        self._allowed_at = now + self._forbidden
        self._forbidden = min(2 * self._forbidden, _MAX_FORBIDDEN)

    def _find(self) -> bool:
        """Whether the last refusals came at one number in flight, with nothing let in above it."""
        lowest, highest, let_in = math.inf, 0, 0
        for compared, refusal in enumerate(reversed(self._refusals), 1):
            lowest = min(lowest, refusal.in_flight)
            highest = max(highest, refusal.in_flight)
            if compared >= _COMPARED and let_in >= max(_BETWEEN, _TURNS * lowest):
                slack = _SLACK_SHARE * lowest + (_SLACK if lowest >= _SLACK_FROM else 0)
                self._lowest = lowest - slack
                return highest <= lowest + slack
            let_in += refusal.let_in
            highest = max(highest, refusal.highest)
        return False
