"""An upstream call: its place, its tries, its deadline."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import tenacity

from services.common.errors import BackendError
from services.common.hosted.config import HostedConfig
from services.common.hosted.limits import Limits
from services.common.hosted.statuses import TRANSIENT

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """What the provider answered, at which try, after how long in queues and pauses."""

    value: T
    attempts: int
    queue_seconds: float


class Attempts:
    """The one layer that retries.

    The wait before another try is random between 0 and a bound that doubles (full
    jitter: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/),
    or what Retry-After asks for. It is not waited where it would pass the caller's
    deadline (or `max_retry_after_seconds`): the error then goes out at once. Only
    services.common.hosted.statuses.TRANSIENT errors are tried again; every error that
    goes out has "attempts" in its metadata.
    """

    def __init__(self, config: HostedConfig[Any]) -> None:
        self._config = config
        self._limits = Limits(config)
        # tenacity rather than stamina, which adds its jitter to a fixed backoff and
        # knows no deadline that differs from call to call.
        self._backoff = tenacity.wait_random_exponential(
            multiplier=config.backoff_seconds, max=config.max_backoff_seconds
        )

    async def call(
        self, model: str, deadline: float | None, attempt: Callable[[], Awaitable[T]]
    ) -> Answered[T]:
        """Await `attempt()` in a place of its own until it succeeds.

        attempt: raises a BackendError for whatever goes wrong; cancelled with the call.
        deadline: GenerationRequest.deadline. Raises the last try's error, Overloaded.
        """

        @asynccontextmanager
        async def connect() -> AsyncIterator[T]:
            yield await attempt()

        async with self.open(model, deadline, connect) as answered:
            return answered

    @asynccontextmanager
    async def open(
        self,
        model: str,
        deadline: float | None,
        connect: Callable[[], AbstractAsyncContextManager[T]],
    ) -> AsyncIterator[Answered[T]]:
        """Like `call` for a stream: tries again only until `connect()` is entered.

        Entering must read up to the first delta, so that no try follows one. The
        place is held, and the stream kept open, until the block ends.
        """
        attempts = 0
        queued = 0.0

        async def attempt() -> tuple[T, AsyncExitStack]:
            nonlocal attempts, queued
            async with AsyncExitStack() as stack:
                arrived = time.perf_counter()
                await stack.enter_async_context(
                    self._limits.place(model, deadline, again=attempts > 0)
                )
                queued += time.perf_counter() - arrived
                attempts += 1
                value = await stack.enter_async_context(connect())
                return value, stack.pop_all()

        try:
            try:
                value, stack = await attempt()
            except TRANSIENT as error:
                value, stack = await self._again(error, attempt, deadline)
            async with stack:
                yield Answered(value, attempts, queued)
        except BackendError as error:
            error.metadata.setdefault("attempts", str(attempts))
            raise

    async def _again(
        self, failure: BackendError, attempt: Callable[[], Awaitable[T]], deadline: float | None
    ) -> T:
        """Go on after the first try, whose failure is played back to tenacity.

        So a call that succeeds at once, as most do, does not pay for it: 25 us of CPU.
        """
        first = [failure]

        async def play() -> T:
            if first:
                raise first.pop()
            return await attempt()

        result: T = await tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(TRANSIENT),
            wait=self._wait,
            stop=lambda state: self._stop(state, deadline),
            reraise=True,
        )(play)
        return result

    def _wait(self, state: tenacity.RetryCallState) -> float:
        asked = _error(state).retry_after
        return self._backoff(state) if asked is None else asked

    def _stop(self, state: tenacity.RetryCallState, deadline: float | None) -> bool:
        wait = state.upcoming_sleep
        over = (
            state.attempt_number >= self._config.max_attempts
            or wait > self._config.max_retry_after_seconds
            or (deadline is not None and time.monotonic() + wait >= deadline)
        )
        if over and (error := _error(state)).retry_after is None:
            error.retry_after = wait  # the caller's turn to wait
        return over


def _error(state: tenacity.RetryCallState) -> BackendError:
    """The error of the try that has just failed; only BackendErrors are tried again."""
    error = state.outcome and state.outcome.exception()
    assert isinstance(error, BackendError)  # noqa: S101 - `retry` has seen to it
    return error
