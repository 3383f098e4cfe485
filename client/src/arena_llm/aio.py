"""The asynchronous client: the same methods as the synchronous one, awaited."""

# ruff: noqa: ASYNC109 - a timeout travels to the server; asyncio.timeout would not

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Self, TypeVar, Unpack

from arena_llm._fork import aio, grpc
from arena_llm._request import (
    Call,
    Messages,
    build_availability_call,
    build_generate_call,
    build_generate_calls,
    build_health_call,
    build_models_call,
    build_score_call,
    build_stream_call,
)
from arena_llm._stream import BaseStream
from arena_llm._transport import AsyncLink, BaseClient, PendingCall
from arena_llm.errors import ArenaError
from arena_llm.types import (
    Availability,
    Completion,
    Delta,
    GenerateOptions,
    ModelList,
    Score,
)

T = TypeVar("T")

# UsageError: the channel was closed during the call.
_FAILURES = (grpc.RpcError, aio.UsageError)


class AsyncClient(BaseClient):
    """Calls models; arguments and errors are those of Client.

    Several event loops may use one client, one after the other: each has its own channel.
    The client can be pickled. Cancelling the awaiting task cancels the call.
    """

    _link_type = AsyncLink

    async def generate(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Messages | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Completion:
        """See Client.generate."""
        return await self._send(build_generate_call(model, prompt, messages, options), timeout)

    def stream(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Messages | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncStream:
        """Return a completion as a stream, for `async for`; see Client.stream."""
        return AsyncStream(
            self._pending(build_stream_call(model, prompt, messages, options), timeout)
        )

    async def generate_many(
        self,
        model: str,
        prompts: Iterable[str | Messages],
        *,
        concurrency: int = 32,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Completion | ArenaError]:
        """See Client.generate_many; each concurrent call has its own task."""
        calls = build_generate_calls(model, prompts, options, concurrency)
        waiting = iter(enumerate(calls))
        outcomes: dict[int, Completion | ArenaError] = {}

        async def work() -> None:
            for index, call in waiting:
                try:
                    if isinstance(call, ArenaError):
                        raise call
                    completion = await self._send(call, timeout)
                    outcomes[index] = completion
                except ArenaError as error:
                    outcomes[index] = error

        async with asyncio.TaskGroup() as workers:
            for _ in range(min(concurrency, len(calls))):
                workers.create_task(work())
        return [outcomes[index] for index in range(len(calls))]

    async def score(
        self,
        model: str,
        prompt: str | None,
        continuations: Iterable[str],
        *,
        messages: Messages | None = None,
        session: str = "",
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> list[Score]:
        """See Client.score."""
        call = build_score_call(model, prompt, continuations, messages, session, labels)
        return await self._send(call, timeout)

    async def is_available(self, model: str = "", *, timeout: float | None = None) -> Availability:
        """See Client.is_available."""
        return await self._send(build_availability_call(model), timeout)

    async def list_models(self, *, timeout: float | None = None) -> ModelList:
        """See Client.list_models."""
        return await self._send(build_models_call(), timeout)

    async def health(self, *, timeout: float | None = None) -> str:
        """See Client.health."""
        return await self._send(build_health_call(), timeout)

    async def close(self) -> None:
        """Cancel running calls in every event loop, and refuse further ones."""
        for loop, opened in self._link.release().items():
            if loop is asyncio.get_running_loop():
                opened.cancel_calls()
                await opened.channel.close(None)
            else:
                # The channel closes when that loop drops it.
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(opened.cancel_calls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, call: Call[T], timeout: float | None = None) -> T:
        pending = self._pending(call, timeout)
        while True:
            try:
                reply = await pending.start()
            except asyncio.CancelledError:
                raise _cancellation(pending) from None
            except _FAILURES as error:
                pause = pending.pause_after(error)
            else:
                return call.convert(reply)
            await asyncio.sleep(pause)


class AsyncStream(BaseStream, AsyncIterator[str]):
    """A completion in pieces, for `async for` and `async with`; see Stream."""

    async def __anext__(self) -> str:
        while (delta := await self._read()) is not None:
            if delta.text:
                return delta.text
        raise StopAsyncIteration

    async def events(self) -> AsyncIterator[Delta]:
        """Yield the rest of the stream, text and reasoning, in order."""
        while (delta := await self._read()) is not None:
            yield delta

    async def aclose(self) -> None:
        """Cancel the call if it still runs. A second close does nothing."""
        self._cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cancel()

    async def _read(self) -> Delta | None:
        while not self._ended:
            try:
                event = await self._open().read()
            except asyncio.CancelledError:
                if self._ended and not _task_cancelled():
                    break
                self._cancel()  # grpc.aio does not if a message arrives at the same time
                raise _cancellation(self._pending) from None
            except _FAILURES as error:
                await asyncio.sleep(self._pause_after(error))
            else:
                if event is aio.EOF:  # type: ignore[attr-defined]  # missing in the stubs
                    self._finish()
                elif (delta := self._take(event)) is not None:
                    return delta
        return None


def _task_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _cancellation(pending: PendingCall[Any]) -> BaseException:
    """Return the error to raise for a CancelledError of grpc.aio.

    A cancelled task gets its CancelledError. Otherwise the call was cancelled, because its
    channel was closed, and the task must not look cancelled.
    """
    return asyncio.CancelledError() if _task_cancelled() else pending.closed_error()
