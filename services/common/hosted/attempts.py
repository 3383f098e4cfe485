"""An upstream call: its place, its tries, its deadline."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import tenacity

from services.common.errors import BackendError
from services.common.hosted.config import HostedConfig
from services.common.hosted.limits import Limits
from services.common.hosted.statuses import is_transient

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
    errors for which services.common.hosted.statuses.is_transient holds are tried again;
    every error that goes out has "attempts" in its metadata.
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

        tries = _Tries()

        async def once() -> T:
            async with self._limits.place(model, deadline, again=tries.begin()):
                tries.admitted()
                return await attempt()

        with tries.counted():
            value = await self._answer(once, deadline)
        return Answered(value, tries.count, tries.queue_seconds)

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
        tries = _Tries()

        async def once() -> tuple[T, AsyncExitStack]:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(
                    self._limits.place(model, deadline, again=tries.begin())
                )
                tries.admitted()
                value = await stack.enter_async_context(connect())
                return value, stack.pop_all()

        with tries.counted():
            value, stack = await self._answer(once, deadline)
            async with stack:
                yield Answered(value, tries.count, tries.queue_seconds)

    async def _answer(self, once: Callable[[], Awaitable[T]], deadline: float | None) -> T:
        """What `once` answers, at the first or a further try."""
        try:
            return await once()
        except BackendError as error:
            if not is_transient(error):
                raise
            return await self._again(error, once, deadline)

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
            retry=tenacity.retry_if_exception(is_transient),
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


class _Tries:
    """The tries of one call: how many, and how long they waited for a place."""

    def __init__(self) -> None:
        self.count = 0
        self.queue_seconds = 0.0
        self._arrived = 0.0

    def begin(self) -> bool:
        """A try sets out for its place; True if it is not the first."""
        self._arrived = time.perf_counter()
        return self.count > 0

    def admitted(self) -> None:
        """It has its place."""
        self.count += 1
        self.queue_seconds += time.perf_counter() - self._arrived

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Tell the count in the metadata of the error that goes out."""
        try:
            yield
        except BackendError as error:
            error.metadata.setdefault("attempts", str(self.count))
            raise


def _error(state: tenacity.RetryCallState) -> BackendError:
    """The error of the try that has just failed; only BackendErrors are tried again."""
    error = state.outcome and state.outcome.exception()
    assert isinstance(error, BackendError)  # noqa: S101 - `retry` has seen to it
    return error
