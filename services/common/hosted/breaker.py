"""Circuit breakers: a model whose provider keeps failing is not called until a probe succeeds.

Each model has a breaker for each reason: UPSTREAM_UNAVAILABLE, and TIMEOUT for attempts that took
too long. It opens when many attempts in a row have failed over some time. While it is open, calls
are refused without a request to the provider. From time to time one call is let through: the probe.
Any answer to it closes the breaker; if it fails, the time to the next probe doubles.

The breakers are here and not in the router, because only this service sees each attempt and knows
whose fault a failure is. A library does not fit: purgatory, the maintained one for asyncio, opens
after a number of failures, however short the outage.

Answers of any other kind, such as RATE_LIMITED, show that the provider works. They close a breaker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.common.backend import BreakerState
from services.common.errors import UnreadableAnswer, UpstreamTimeout, UpstreamUnavailable
from services.common.hosted.config import BreakerConfig
from services.common.log import log

#: Model names come from callers, so no more models than this are remembered.
_MAX_MODELS = 1024
#: A row of failures ends if the next failed attempt begins more seconds than this after the last.
_FORGET = 60.0
#: Seconds after which callers that are refused during a probe may try again.
_PROBE_WAIT = 1.0


class BreakerOpen(UpstreamUnavailable):
    """The refusal of a call that was not sent."""


class Trial:
    """One attempt that the breakers of its model let through. End it exactly once."""

    __slots__ = ("_breakers", "begun", "model")

    def __init__(self, breakers: Breakers, model: str, begun: float) -> None:
        self._breakers = breakers
        self.model = model
        self.begun = begun

    def end(self, error: BaseException | None = None) -> None:
        """Say how the attempt ended."""
        self._breakers.end(self, error)


@dataclass(slots=True)
class _Breaker:
    """Failures in a row. since: when the first one was sent. words: the message of the last one.

    last: when the last one ended. interval: seconds between probes, if it is open. due: when the
    next probe may be sent.
    """

    reason: str
    since: float
    interval: float
    last: float
    failures: int = 0
    words: str = ""
    provider: str = ""
    is_open: bool = False
    due: float = 0.0
    probe: Trial | None = None

    def wait(self, now: float) -> float | None:
        """Seconds until calls may be sent again; None: now."""
        if not self.is_open:
            return None
        if self.probe is not None:
            return _PROBE_WAIT
        return self.due - now if self.due > now else None


class Breakers:
    """The breakers of all models of a service. config: None turns them off."""

    def __init__(
        self, config: BreakerConfig | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._clock = clock
        #: By model and reason. Only models whose last attempt failed have breakers.
        self._failing: dict[str, dict[str, _Breaker]] = {}

    def check(self, model: str) -> None:
        """Raise BreakerOpen if a breaker of the model refuses calls now."""
        if (breakers := self._failing.get(model)) is None:
            return
        now = self._clock()
        for breaker in breakers.values():
            if (wait := breaker.wait(now)) is not None:
                raise _make_refusal(model, breaker, wait, now)

    def begin(self, model: str) -> Trial:
        """Let an attempt through. It becomes the probe of an open breaker.

        Raises BreakerOpen as `check` does.
        """
        self.check(model)
        trial = Trial(self, model, self._clock())
        for breaker in self._failing.get(model, {}).values():
            if breaker.is_open:
                breaker.probe = trial
        return trial

    def find_wait(self, model: str) -> float | None:
        """Return the seconds until a call to the model may be sent; None: now."""
        now = self._clock()
        waits = [breaker.wait(now) for breaker in self._failing.get(model, {}).values()]
        return max((wait for wait in waits if wait is not None), default=None)

    def find(self, model: str) -> BreakerState | None:
        """Return the open breaker of a model; None if calls are not refused."""
        states = (state for state in self.list() if state.model == model)
        return max(states, key=lambda state: state.seconds, default=None)

    def list(self) -> Sequence[BreakerState]:
        """Return all breakers that are open."""
        now = self._clock()
        return [
            BreakerState(model, breaker.reason, breaker.failures, breaker.wait(now) or 0.0)
            for model, breakers in self._failing.items()
            for breaker in breakers.values()
            if breaker.is_open
        ]

    def end(self, trial: Trial, error: BaseException | None) -> None:
        """Count the outcome of an attempt."""
        reason = _find_reason(error)
        if reason is None and trial.model not in self._failing:
            return  # the usual case
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._drop_probe(trial)  # the next call is the probe
        elif reason is None:
            self._close(trial)
        elif isinstance(error, UpstreamUnavailable) and self._config is not None:
            self._fail(trial, reason, error, self._config)

    def _drop_probe(self, trial: Trial) -> None:
        for breaker in self._failing.get(trial.model, {}).values():
            if breaker.probe is trial:
                breaker.probe = None

    def _close(self, trial: Trial) -> None:
        breakers = self._failing.pop(trial.model, {})
        if any(breaker.is_open for breaker in breakers.values()):
            log.info("a provider answers again", model=trial.model)

    def _fail(
        self, trial: Trial, reason: str, error: UpstreamUnavailable, config: BreakerConfig
    ) -> None:
        now = self._clock()
        breakers = self._failing.setdefault(trial.model, {})
        if len(self._failing) > _MAX_MODELS:
            del self._failing[next(iter(self._failing))]
        breaker = breakers.get(reason)
        if breaker is None or (not breaker.is_open and trial.begun - breaker.last > _FORGET):
            breaker = _Breaker(reason, trial.begun, config.probe_seconds, now)
            breakers[reason] = breaker
        breaker.failures += 1
        breaker.last = now
        breaker.words, breaker.provider = error.message, error.metadata.get("provider", "")
        asked = error.retry_after or 0.0  # by the provider
        is_probe = any(other.probe is trial for other in breakers.values())
        for other in breakers.values():
            if other.probe is trial:
                other.probe = None
                other.interval = min(2 * other.interval, config.max_probe_seconds)
                other.due = now + min(max(other.interval, asked), config.max_probe_seconds)
        lasted = now - breaker.since
        if breaker.is_open or breaker.failures < config.failures or lasted < config.seconds:
            return
        breaker.is_open = True
        wait = min(max(breaker.interval, asked), config.max_probe_seconds)
        breaker.due = now + wait
        if not is_probe:
            log.warning(
                "a provider keeps failing: calls are refused until a probe succeeds",
                model=trial.model,
                reason=reason,
                failures=breaker.failures,
                seconds=round(lasted, 1),
                probe_in_s=round(wait, 1),
            )


def _find_reason(error: BaseException | None) -> str | None:
    """Return the reason for which an attempt counts as the provider's failure; None: it does not.

    An unreadable answer does not count, because it may depend on this one request.
    """
    if not isinstance(error, UpstreamUnavailable) or isinstance(error, UnreadableAnswer):
        return None
    return "TIMEOUT" if isinstance(error, UpstreamTimeout) else error.reason


def _make_refusal(model: str, breaker: _Breaker, wait: float, now: float) -> BreakerOpen:
    metadata = {"breaker": breaker.reason, "failures": str(breaker.failures)}
    if breaker.provider:
        metadata["provider"] = breaker.provider
    return BreakerOpen(
        f"{model}: the last {breaker.failures} attempts of {now - breaker.since:.0f} s failed, so "
        f"nothing is sent for {wait:.3g} s (breaker, {breaker.reason}); the last one: "
        f"{breaker.words}",
        retry_after=wait,
        metadata=metadata,
    )
