"""Calls a provider until an attempt succeeds: the only layer that retries."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from arena_llm.tracing import tracing
from arena_llm.types import Attempt
from services.common.errors import BackendError, RateLimited
from services.common.hosted.breaker import BreakerOpen, Breakers, Trial
from services.common.hosted.config import HostedConfig
from services.common.hosted.errors import is_transient
from services.common.hosted.limits import CallLimits, Place
from services.common.hosted.report import add_attempts, failed
from services.common.metrics import Figures, meter
from services.common.tenant import TENANT

T = TypeVar("T")

#: Attempts of one call that are remembered.
_MOST_FAILURES = 100
#: The backoff stops doubling after this many attempts; it is far over its maximum by then.
_MAX_DOUBLINGS = 60


@dataclass(slots=True)
class Outcome(Generic[T]):
    """A successful call.

    value: what the last attempt returned. failures: the attempts before it. begun: when the last
    one began, on time.perf_counter's clock. queue_seconds: time spent waiting for places, over all
    attempts. tokens: that the call used; None if that is not known.
    """

    value: T
    failures: tuple[Attempt, ...]
    begun: float
    queue_seconds: float
    tokens: int | None = None


class Retrier:
    """Runs attempts within the limits of the service, and retries transient failures.

    A call that the provider's limits refuse (HTTP 429) goes back to the front of its queue, which
    decides when it is sent again. This uses up no attempt.

    The pause before any other retry is the provider's Retry-After. Without one it is random
    between 0 and a bound that doubles with each attempt ("full jitter":
    https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).

    There is no retry if the pause would pass the caller's deadline or `max_retry_after_seconds`, or
    if a breaker of the model has opened. The error is then raised immediately. Every error
    has its attempts in its report.
    """

    def __init__(self, config: HostedConfig[Any]) -> None:
        self._config = config
        self._limits = CallLimits(config)
        self.breakers = Breakers(config.breaker)
        meter.watch("waiting", self._show_waiting)
        meter.watch("paused", self._show_paused)
        meter.watch("breaker", self._show_breakers)

    def close(self) -> None:
        """Stop showing the gauges."""
        meter.unwatch("waiting", self._show_waiting)
        meter.unwatch("paused", self._show_paused)
        meter.unwatch("breaker", self._show_breakers)

    def _show_waiting(self) -> Figures:
        for model, queue in self._limits.queues():
            yield meter.labels(model), queue.waiting

    def _show_paused(self) -> Figures:
        for model, queue in self._limits.queues():
            yield meter.labels(model), queue.is_paused

    def _show_breakers(self) -> Figures:
        for state in self.breakers.list():
            yield (*meter.labels(state.model), state.reason), 1.0 if state.seconds > 0 else 0.5

    async def call(
        self,
        model: str,
        deadline: float | None,
        attempt: Callable[[], Awaitable[T]],
        tokens: int = 0,
        count: Callable[[T], int | None] = lambda _: None,
    ) -> Outcome[T]:
        """Await `attempt()` until it succeeds. Each attempt waits for its own place.

        deadline: on time.monotonic's clock; None: no deadline. tokens: an estimate of what an
        attempt uses. count: returns what it has used.
        Raises the error of the last attempt, and the errors of CallLimits.enter.
        """
        outcome, place = await self._run(model, deadline, attempt, tokens)
        place.leave(tokens=count(outcome.value))
        return outcome

    @asynccontextmanager
    async def open(
        self,
        model: str,
        deadline: float | None,
        attempt: Callable[[], Awaitable[T]],
        tokens: int = 0,
    ) -> AsyncIterator[Outcome[T]]:
        """Like `call`, but hold the place until the block ends, which sets outcome.tokens.

        For streams.

        `attempt()` must wait for the first event of the stream, because nothing is retried
        once the block has begun.
        """
        outcome, place = await self._run(model, deadline, attempt, tokens)
        try:
            yield outcome
        except BaseException as error:
            place.leave(error)
            if isinstance(error, BackendError):
                last = failed(error, time.perf_counter() - outcome.begun)
                add_attempts(error, (*outcome.failures, last))
            raise
        place.leave(tokens=outcome.tokens)

    async def _run(
        self,
        model: str,
        deadline: float | None,
        attempt: Callable[[], Awaitable[T]],
        tokens: int,
    ) -> tuple[Outcome[T], Place]:
        """Return the outcome of the first success, and its place, which the caller must leave."""
        tries = 0  # attempts that the provider's limits did not refuse
        failures: tuple[Attempt, ...] = ()
        queue_seconds = 0.0
        while True:
            arrived = time.perf_counter()
            failures = failures[-_MOST_FAILURES:]
            try:
                place, trial = await self._enter(model, deadline, bool(failures), tokens)
            except BackendError as error:
                add_attempts(error, failures)
                raise
            begun = time.perf_counter()
            queue_seconds += begun - arrived
            span = tracing.start("provider request", "CLIENT")
            try:
                value = await attempt()
            except RateLimited as error:
                tracing.end(span, problem=error.reason)
                trial.end(error)
                place.leave(error)
                meter.count_attempt(model, error.reason)
                failures = (*failures, failed(error, time.perf_counter() - begun))
            except BackendError as error:
                tracing.end(span, problem=error.reason)
                trial.end(error)
                place.leave(error)
                meter.count_attempt(model, error.reason)
                tries += 1
                failures = (*failures, failed(error, time.perf_counter() - begun))
                pause = self._find_pause(model, error, tries, deadline)
                if pause is None:
                    add_attempts(error, failures)
                    raise
                await asyncio.sleep(pause)
            except BaseException as error:
                tracing.end(span, problem=type(error).__name__)
                trial.end(error)
                place.leave(error)
                raise
            else:
                trial.end()
                tracing.end(span)
                meter.count_attempt(model)
                return Outcome(value, failures, begun, queue_seconds), place

    async def _enter(
        self, model: str, deadline: float | None, again: bool, tokens: int
    ) -> tuple[Place, Trial]:
        """Wait for the turn of an attempt.

        Raises BreakerOpen, and the errors of CallLimits.enter.
        """
        self.breakers.check(model)
        place = await self._limits.enter(
            model, deadline, again=again, tokens=tokens, tenant=TENANT.get()
        )
        try:
            return place, self.breakers.begin(model)
        except BreakerOpen as error:  # it has opened while the call waited
            place.leave(error)
            raise

    def _find_pause(
        self, model: str, error: BackendError, tries: int, deadline: float | None
    ) -> float | None:
        """Seconds to wait before the next try; None if there must be none.

        If no try is left, the error gets the pause as its `retry_after` for the caller.
        """
        if not is_transient(error):
            return None
        config = self._config
        if (wait := self.breakers.find_wait(model)) is not None:
            error.retry_after = wait
            return None
        pause = error.retry_after
        if pause is None:
            bound = config.backoff_seconds * 2.0 ** min(tries - 1, _MAX_DOUBLINGS)
            pause = random.uniform(0, min(bound, config.max_backoff_seconds))  # noqa: S311
        if (
            tries >= config.max_attempts
            or pause > config.max_retry_after_seconds
            or (deadline is not None and time.monotonic() + pause >= deadline)
        ):
            error.retry_after = pause
            return None
        return pause
