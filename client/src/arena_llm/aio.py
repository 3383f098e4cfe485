"""The asynchronous client: the same methods as the synchronous one, awaited."""

# ruff: noqa: ASYNC109 - a timeout travels to the server; asyncio.timeout would not

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Self, TypeVar, Unpack

from arena_llm._arguments import Messages, Prompt
from arena_llm._base import BaseClient, PendingCall
from arena_llm._fork import aio, grpc
from arena_llm._request import (
    Call,
    Outcome,
    build_availability_call,
    build_count_call,
    build_generate_call,
    build_generate_calls,
    build_info_call,
    build_models_call,
    build_score_call,
    build_stream_call,
    join_pages,
)
from arena_llm._stream import BaseStream, StreamEvent
from arena_llm._transport import AsyncLink, build_health_call
from arena_llm.errors import ArenaError
from arena_llm.types import (
    Availability,
    Completion,
    ContinuationBoundary,
    Delta,
    GenerateOptions,
    ModelList,
    Scoring,
    ServiceInfo,
    TokenCount,
    Tool,
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
        prompt: Prompt | None = None,
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
        prompt: Prompt | None = None,
        *,
        messages: Messages | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncStream:
        """Return a completion as a stream, for `async for`; see Client.stream."""
        return AsyncStream(
            self._pending(build_stream_call(model, prompt, messages, options), timeout)
        )

    def generate_many(
        self,
        model: str,
        prompts: Iterable[Prompt | Messages],
        *,
        concurrency: int = 32,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncIterator[Outcome]:
        """See Client.generate_many; for `async for`. Each concurrent call has its own task."""
        calls = build_generate_calls(model, prompts, options, concurrency)
        return self._send_many(calls, concurrency, timeout)

    async def _send_many(
        self,
        calls: Iterable[Call[Completion] | ArenaError],
        concurrency: int,
        timeout: float | None,
    ) -> AsyncIterator[Outcome]:
        async def send(call: Call[Completion] | ArenaError) -> Completion | ArenaError:
            if isinstance(call, ArenaError):
                return call
            try:
                completion = await self._send(call, timeout)
            except ArenaError as error:
                return error
            return completion

        numbered = enumerate(calls)
        running: dict[asyncio.Task[Completion | ArenaError], int] = {}
        outcomes: list[Outcome] = []
        try:
            while True:
                for index, call in islice(numbered, concurrency - len(running)):
                    running[asyncio.ensure_future(send(call))] = index
                # The next calls run while the caller handles these.
                for outcome in outcomes:
                    yield outcome
                if not running:
                    return
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                outcomes = [(running.pop(task), task.result()) for task in ended]
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def score(
        self,
        model: str,
        prompt: Prompt | None,
        continuations: Iterable[str | Sequence[int]] = (),
        *,
        messages: Messages | None = None,
        boundary: ContinuationBoundary | str | None = None,
        prompt_logprobs: bool = False,
        top_logprobs: int | None = None,
        session: str = "",
        labels: Mapping[str, str] | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Scoring:
        """See Client.score."""
        call = build_score_call(
            model,
            prompt,
            continuations,
            messages,
            boundary=boundary,
            prompt_logprobs=prompt_logprobs,
            top_logprobs=top_logprobs,
            session=session,
            labels=labels,
            template_arguments=template_arguments,
        )
        return await self._send(call, timeout)

    async def count_tokens(
        self,
        model: str,
        prompt: Prompt | None = None,
        *,
        messages: Messages | None = None,
        tools: Sequence[Tool] | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        return_tokens: bool = False,
        timeout: float | None = None,
    ) -> TokenCount:
        """See Client.count_tokens."""
        call = build_count_call(
            model,
            prompt,
            messages,
            tools=tools,
            template_arguments=template_arguments,
            return_tokens=return_tokens,
        )
        return await self._send(call, timeout)

    async def is_available(self, model: str, *, timeout: float | None = None) -> Availability:
        """See Client.is_available."""
        return await self._send(build_availability_call(model), timeout)

    async def list_models(
        self, name_prefix: str = "", *, timeout: float | None = None
    ) -> ModelList:
        """See Client.list_models."""
        pages: list[ModelList] = []
        token = ""
        while not pages or token:
            page = await self._send(build_models_call(name_prefix, token), timeout)
            pages.append(page)
            token = page.next_page_token
        return join_pages(pages)

    async def service_info(self, *, timeout: float | None = None) -> ServiceInfo:
        """See Client.service_info."""
        return await self._send(build_info_call(), timeout)

    async def health(self, *, timeout: float | None = None) -> str:
        """See Client.health."""
        return await self._send(build_health_call(), timeout)

    async def close(self) -> None:
        """Cancel running calls in every event loop, and refuse further ones."""
        for loop, opened in self._link.release():
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
                if reply is None:
                    raise pending.unreadable_reply()
                return call.convert(reply)
            await asyncio.sleep(pause)


class AsyncStream(BaseStream, AsyncIterator[str]):
    """A completion in pieces, for `async for` and `async with`; see Stream."""

    async def __anext__(self) -> str:
        while (event := await self._read()) is not None:
            if isinstance(event, Delta) and event.text:
                return event.text
        raise StopAsyncIteration

    async def events(self) -> AsyncIterator[StreamEvent]:
        """Yield the rest of the stream in order: StreamStart, Delta and Progress objects."""
        while (event := await self._read()) is not None:
            yield event

    async def aclose(self) -> None:
        """Cancel the call if it still runs. A second close does nothing."""
        self._cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cancel()

    async def _read(self) -> StreamEvent | None:
        while not self._ended:
            try:
                message = await self._open().read()
            except asyncio.CancelledError:
                if self._ended and not _task_cancelled():
                    break
                self._cancel()  # grpc.aio does not if a message arrives at the same time
                raise _cancellation(self._pending) from None
            except _FAILURES as error:
                await asyncio.sleep(self._pause_after(error))
            else:
                if message is aio.EOF:  # type: ignore[attr-defined]  # missing in the stubs
                    self._finish()
                elif message is None:
                    self._cancel()
                    raise self._pending.unreadable_reply()
                elif (event := self._take(message)) is not None:
                    return event
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
