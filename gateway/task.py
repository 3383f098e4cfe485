"""What both completion endpoints do with a request, whole or as a stream."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from pydantic_core import to_json

from arena_llm import AsyncClient, AsyncStream
from arena_llm.types import Completion, Delta, Progress, StreamStart, Usage
from gateway.calls import merge
from gateway.exchange import HttpExchange
from gateway.logprobs import to_usage
from gateway.schema.common import SamplingRequest

#: Seconds for which the head of a streamed answer waits for the first piece, so that an earlier
#: error still gets its own HTTP status.
HEAD_PATIENCE = 5.0


def number_requests(options: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the options of several equal calls, each with its own id and its own seed."""
    if count == 1:
        return [options]
    numbered = []
    for index in range(count):
        own = {**options, "request_id": f"{options['request_id']}-{index}"}
        if "seed" in own:
            own["seed"] += index
        numbered.append(own)
    return numbered


class Chunks(Protocol):
    """Writes the chunks of one streamed answer."""

    def start(self, event: StreamStart) -> None: ...

    def piece(self, index: int, event: Delta) -> dict[str, Any]: ...

    def end(self, index: int, completion: Completion) -> dict[str, Any]: ...

    def usage(self, usage: Mapping[str, Any]) -> dict[str, Any]: ...


class CompletionTask(ABC):
    """A request that becomes one call or several.

    id: of the answer. params: the caller's words for fields of our contract. completions: what
    was answered, for the log.
    """

    def __init__(self, request: SamplingRequest, client: AsyncClient, id: str) -> None:
        self.request = request
        self.client = client
        self.id = id
        self.params: dict[str, str] = {}
        self.completions: Sequence[Completion] = ()
        self.wants_ids = bool(request.return_token_ids)

    @abstractmethod
    async def answer(self) -> dict[str, Any]:
        """Return the whole answer."""

    @abstractmethod
    def streams(self) -> Sequence[AsyncStream]:
        """Return the streams of the completions."""

    @abstractmethod
    def begin_chunks(self) -> Chunks:
        """Return what writes the chunks."""

    async def prelude(self) -> Sequence[dict[str, Any]]:
        """Return the chunks before the first piece."""
        return ()

    def prompt_usages(self, completions: Sequence[Completion]) -> Sequence[Usage]:
        """The usages whose prompts count, because several answers may share a prompt."""
        return [completions[0].usage]

    def note(self, completions: Sequence[Completion]) -> None:
        """Keep what was answered."""
        self.completions = completions

    @property
    def warnings(self) -> list[str]:
        """What the caller should know, once each."""
        return list(dict.fromkeys(w for c in self.completions for w in c.warnings))

    async def stream(self, exchange: HttpExchange) -> None:
        """Answer as a stream of events."""
        options = self.request.stream_options
        wants_usage = options is not None and bool(options.include_usage)
        running = RunningUsage() if options and options.continuous_usage_stats else None
        chunks = self.begin_chunks()
        ends: dict[int, Completion] = {}
        begun = time.monotonic()
        before = list(await self.prelude())
        async with aclosing(merge(self.streams())) as events:
            async for index, event in events:
                match event:
                    case Delta():
                        chunk = chunks.piece(index, event)
                        if running is not None:
                            running.add(event)
                    case Completion():
                        chunk = chunks.end(index, event)
                        ends[index] = event
                    case StreamStart():
                        chunks.start(event)
                        continue
                    case Progress():
                        if not exchange.started and time.monotonic() - begun > HEAD_PATIENCE:
                            await exchange.begin_events()
                        if exchange.started:
                            await exchange.send_events(b": %b\n\n" % event.state.encode())
                        continue
                if running is not None:
                    chunk["usage"] = running.usage()
                elif wants_usage:
                    chunk["usage"] = None
                if not exchange.started:
                    await exchange.begin_events()
                data = b"".join([_write(one) for one in (*before, chunk)])
                before = []
                await exchange.send_events(data)
        self.note([ends[index] for index in sorted(ends)])
        last = b""
        if wants_usage or running is not None:
            usages = [completion.usage for completion in self.completions]
            usage = to_usage(usages, self.prompt_usages(self.completions))
            last = _write(chunks.usage(usage))
        await exchange.end_events(last + b"data: [DONE]\n\n")


class RunningUsage:
    """What a stream has used until now. The tokens of the prompt are known at its end only."""

    def __init__(self) -> None:
        self._tokens = 0

    def add(self, event: Delta) -> None:
        """Count the tokens of a piece; one if they are not known."""
        self._tokens += max(1, len(event.tokens)) if event.tokens is not None else 1

    def usage(self) -> dict[str, int]:
        """Return the usage."""
        return {
            "prompt_tokens": 0,
            "completion_tokens": self._tokens,
            "total_tokens": self._tokens,
        }


def _write(chunk: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % to_json(chunk)
