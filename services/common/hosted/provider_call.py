"""One request to a provider, whole or streamed, with its cost noted in the journal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from arena_llm.types import Completion, Delta
from services.common.errors import BackendError, Interrupted, ModelNotFound, UpstreamUnavailable
from services.common.hosted.completion import CompletionBuilder
from services.common.hosted.errors import is_transient
from services.common.hosted.journal import Entry
from services.common.hosted.report import end_request, fail_request

Event = Delta | Completion


class ProviderCall(ABC):
    """A request in the provider's format. Each attempt calls `complete` or `stream` again."""

    @abstractmethod
    async def complete(self, entry: Entry) -> Completion:
        """Request a whole completion. entry: notes that the request is sent."""

    @abstractmethod
    def stream(self, entry: Entry) -> tuple[CompletionBuilder, AsyncGenerator[Any, None]]:
        """Request a stream. Return its chunks, and the builder to feed with them.

        Closing the generator ends the provider's request.
        """

    async def explain(self, error: ModelNotFound) -> BackendError:
        """Return the error to raise for a 404. A subclass may find a more precise one."""
        return error


async def explain_missing(call: ProviderCall, error: ModelNotFound) -> BackendError:
    """The error to raise for a 404, with what the call has tried."""
    explained = await call.explain(error)
    explained.report = error.report
    return explained


async def request_completion(call: ProviderCall, entry: Entry) -> Completion:
    """Request a whole completion, and note what the request cost."""
    try:
        completion = await call.complete(entry)
    except BackendError as error:
        fail_request(entry, error)
        raise
    end_request(entry, completion)
    return completion


async def open_stream(
    call: ProviderCall, entry: Entry
) -> tuple[Event, AsyncGenerator[Event, None]]:
    """Wait for the first event of a stream. Return it and the generator of the others."""
    events = _read_events(call, entry)
    return await anext(events), events


async def next_event(events: AsyncGenerator[Event, None]) -> Event:
    """Return the next event. Raises Interrupted if the answer breaks off: it is not retried."""
    try:
        return await anext(events)
    except UpstreamUnavailable as error:
        if not is_transient(error):
            raise
        raise Interrupted(
            error.message, metadata=error.metadata, report=error.report
        ) from error.__cause__


async def _read_events(call: ProviderCall, entry: Entry) -> AsyncGenerator[Event, None]:
    builder, chunks = call.stream(entry)
    begun = False
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                deltas = builder.feed(chunk)
                entry.name(builder.id)
                for delta in deltas:
                    begun = True
                    yield delta
        for delta in builder.flush():
            yield delta
        completion = builder.completion()
        end_request(entry, completion)
        yield completion
    except BackendError as error:
        if builder.provider:
            error.metadata.setdefault("provider", builder.provider)
        fail_request(entry, error, begun or builder.reasoned)
        raise
