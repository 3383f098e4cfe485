"""The asynchronous client: the synchronous one's methods, awaited."""

# ruff: noqa: ASYNC109 - a deadline travels to the server; asyncio.timeout would not

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from arena_llm._attempt import Attempt
from arena_llm._base import BaseClient
from arena_llm._channel import AsyncLink
from arena_llm._grpc import aio, grpc
from arena_llm._request import (
    Call,
    generate_call,
    generate_calls,
    is_available_call,
    list_models_call,
    score_call,
    stream_call,
)
from arena_llm._stream import BaseStream
from arena_llm.errors import ArenaError
from arena_llm.types import (
    Availability,
    Completion,
    Delta,
    GenerateOptions,
    Message,
    ModelList,
    Score,
)

T = TypeVar("T")

# UsageError: the channel was closed under the call.
_FAILURES = (grpc.RpcError, aio.UsageError)


class AsyncClient(BaseClient):
    """Asks models for completions; arguments and errors are those of Client.

    It serves the tasks of one event loop after another (each loop gets a channel
    of its own), and pickles. Cancelling the awaiting task cancels the call.
    """

    _link_type = AsyncLink

    async def generate(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Iterable[Message] | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Completion:
        """See Client.generate."""
        return await self._send(generate_call(model, prompt, messages, options), timeout)

    def stream(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Iterable[Message] | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncStream:
        """Return a completion as it grows, for `async for`; see Client.stream."""
        call = stream_call(model, prompt, messages, options)
        return AsyncStream(self._attempt(call, timeout))

    async def generate_many(
        self,
        model: str,
        prompts: Iterable[str | Iterable[Message]],
        *,
        concurrency: int = 32,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Completion | ArenaError]:
        """See Client.generate_many; each of the calls at once is a task."""
        calls = generate_calls(model, prompts, options, concurrency)
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
        messages: Iterable[Message] | None = None,
        session: str = "",
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> list[Score]:
        """See Client.score."""
        call = score_call(model, prompt, continuations, messages, session, labels)
        return await self._send(call, timeout)

    async def is_available(self, model: str = "", *, timeout: float | None = None) -> Availability:
        """See Client.is_available."""
        return await self._send(is_available_call(model), timeout)

    async def list_models(self, *, timeout: float | None = None) -> ModelList:
        """See Client.list_models."""
        return await self._send(list_models_call(), timeout)

    async def close(self) -> None:
        """Cancel what runs, in every event loop, and refuse calls from now on."""
        for loop, opened in self._link.release().items():
            if loop is asyncio.get_running_loop():
                opened.cancel_calls()
                await opened.channel.close(None)
            else:
                # Its channel closes when that loop has dropped it.
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(opened.cancel_calls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _send(self, call: Call[T], timeout: float | None = None) -> T:
        attempt = self._attempt(call, timeout)
        while True:
            try:
                reply = await attempt.start()
            except asyncio.CancelledError:
                raise _cancellation(attempt) from None
            except _FAILURES as error:
                pause = attempt.pause_after(error)
            else:
                return call.convert(reply)
            await asyncio.sleep(pause)


class AsyncStream(BaseStream, AsyncIterator[str]):
    """A completion as it grows, for `async for` and `async with`; see Stream."""

    async def __anext__(self) -> str:
        while (delta := await self._read()) is not None:
            if delta.text:
                return delta.text
        raise StopAsyncIteration

    async def events(self) -> AsyncIterator[Delta]:
        """Yield what is still to come, text and reasoning, in its order."""
        while (delta := await self._read()) is not None:
            yield delta

    async def aclose(self) -> None:
        """Cancel the call if it still runs. Harmless twice."""
        self._cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cancel()

    async def _read(self) -> Delta | None:
        while not self._ended:
            try:
                event = await self._open().read()
            except asyncio.CancelledError:
                if self._ended and not _task_cancelled():
                    break
                self._cancel()  # grpc.aio does so too, but misses one that meets a message
                raise _cancellation(self._attempt) from None
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


def _cancellation(attempt: Attempt[Any]) -> BaseException:
    """What a CancelledError out of grpc.aio means.

    It is the task's own where the task was cancelled; else the call was, by the
    closing of its channel, and the task must not appear as cancelled.
    """
    return asyncio.CancelledError() if _task_cancelled() else attempt.closed()
