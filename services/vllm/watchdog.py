"""Notices an engine that lives and does nothing."""

from __future__ import annotations


class Watchdog:
    """Counts the looks at which an engine had requests and had made no step.

    What is slow is no hang: a step reports whether or not it gives a token, so that a long
    prefill, which goes in pieces, counts as progress, as do preemption and a grammar that is
    being compiled. Starting, and loading an adapter, are no requests. Looks are counted, not
    seconds: where this process itself had no CPU, or was stopped, no look was taken. A single
    step must be shorter than `patience`.
    """

    def __init__(self, patience: float, interval: float) -> None:
        """patience: seconds without a step. interval: seconds between two looks."""
        self._most = max(1, round(patience / interval))
        self._still = 0
        self._steps = 0

    def hangs(self, requests: int, steps: int) -> bool:
        """A look: requests that have not ended, and steps that the engine has ever reported.

        Without requests it may well stand still. That is no progress either: callers give up
        and others come.
        """
        if steps != self._steps:
            self._steps, self._still = steps, 0
        elif requests:
            self._still += 1
        return self._still >= self._most
