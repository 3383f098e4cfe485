"""How long a run waits for a model that is not available."""

from __future__ import annotations

import random
import time
from typing import NamedTuple

from arena_llm import ArenaError

#: Reasons of UNAVAILABLE that pass when a service restarts. Other errors need a retry_after.
_OUTAGES = frozenset(("BACKEND_DOWN", "CONNECTION_LOST", "UNREACHABLE"))

#: The reason of an error that the client itself makes if nothing answers at its target.
_NO_ROUTER = "UNREACHABLE"

#: Pauses in seconds if the error does not say how long: the first one and the longest.
_FIRST, _LONGEST = 0.5, 10.0

#: Random extra share of a pause.
_JITTER = 0.25


def spread(pause: float) -> float:
    """Lengthen a pause by a random share, so that not all callers retry at the same time."""
    return pause * (1 + random.uniform(0, _JITTER))  # noqa: S311 - no secret


class ModelAway(Exception):
    """A model was not available for longer than the run's patience.

    Its episodes stay open: they have no result, and a later run plays them. error: of the last try.
    """

    def __init__(self, model: str, seconds: float, error: ArenaError) -> None:
        super().__init__(f"{model} was not available for {seconds:g} s: {error.code} {error}")
        self.model = model
        self.error = error


class RouterAway(ModelAway):
    """This machine could not reach the router within Patience.router_seconds.

    Other machines may reach it, so the model is not given up.
    """


class Outage(NamedTuple):
    """A model that is waited for. since, until: seconds since 1970. reason: the last error's."""

    since: float
    until: float
    reason: str


class Patience:
    """Decides how long calls wait for a model: up to `seconds` after its first failure.

    All calls of a process share it, so a model that answers one of them is available for all.

    router_seconds: the limit for the router itself; None: as for a model.
    """

    def __init__(self, seconds: float, router_seconds: float | None = None) -> None:
        self.seconds = seconds
        self.router_seconds = router_seconds
        self._router_away: float | None = None
        self._away: dict[str, float] = {}
        self._outages: dict[str, Outage] = {}

    @property
    def outages(self) -> dict[str, Outage]:
        """The models that are waited for now."""
        now = time.time()
        return {model: found for model, found in self._outages.items() if found.until > now}

    def answered(self, model: str) -> None:
        """Note that a model answered, perhaps with an error of another kind."""
        self._away.pop(model, None)
        self._outages.pop(model, None)
        self._router_away = None

    def find_pause(self, model: str, error: ArenaError, tries: int) -> float | None:
        """Return seconds to wait before the next try; None if waiting does not help.

        tries: how many earlier tries of this call failed like this. Raises ModelAway if the
        patience is over, and RouterAway.
        """
        if error.code != "UNAVAILABLE" or not (error.retry_after or error.reason in _OUTAGES):
            self.answered(model)
            return None
        now = time.monotonic()
        since = self._away.setdefault(model, now)
        pause = error.retry_after or min(_FIRST * 2**tries, _LONGEST)
        pause = spread(pause)
        remaining = since + self.seconds - now
        clock = time.time()
        reason = f"{error.code} {error}"
        began = self._outages[model].since if model in self._outages else clock
        self._outages[model] = Outage(began, began + self.seconds, reason)
        if self.router_seconds is not None and error.reason == _NO_ROUTER:
            if self._router_away is None:
                self._router_away = now
            remaining = min(remaining, self._router_away + self.router_seconds - now)
            if remaining <= 0:
                raise RouterAway(model, self.router_seconds, error)
        if remaining <= 0:
            raise ModelAway(model, self.seconds, error)
        return min(pause, remaining)
