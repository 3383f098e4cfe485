"""A backend with scripted answers, behind the real servicer and the real server.

As a process: `python -m tests.support.scripted LISTEN NAME SAYS`, a PromptedBackend.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from arena_llm.types import (
    Availability,
    Completion,
    CountRequest,
    Delta,
    EngineLoad,
    FinishReason,
    GenerationRequest,
    Message,
    Model,
    ModelState,
    Part,
    Progress,
    Reasoning,
    Refusal,
    Score,
    Scoring,
    ScoringRequest,
    Text,
    TokenCount,
    TokenTrace,
    Usage,
)
from services.common.backend import BaseLLMBackend
from services.common.config import ServiceConfig
from services.common.fields import ALWAYS_HONOURED, PATHS
from services.common.log import configure_logging
from services.common.server import Server, Service, run
from services.common.servicer import LlmServicer
from tests.support.waiting import eventually

#: An event of a stream. After the last one, the completion of the deltas follows automatically.
Event = Delta | Progress | Completion | Exception
#: A step of the script: a text, a completion, an error, the events of a stream, or a function
#: for a text.
Step = str | Completion | Exception | Sequence[Event] | Callable[[], Awaitable[str]]

USAGE = Usage(prompt_tokens=3, completion_tokens=1)


def completion(text: str) -> Completion:
    return Completion(Message("assistant", text), FinishReason.STOP, USAGE)


class ScriptedBackend(BaseLLMBackend[ServiceConfig]):
    """Answers with the enqueued steps, in order; `history` has every request."""

    config_type = ServiceConfig
    fields = PATHS - ALWAYS_HONOURED
    can_score = True
    can_count_tokens = True

    def __init__(self, name: str = "hf") -> None:
        super().__init__(ServiceConfig(listen="127.0.0.1:0"))
        self.name = name  # type: ignore[misc]
        self.history: list[GenerationRequest | ScoringRequest | CountRequest] = []
        self.running = 0
        self.ended: list[str] = []  # "done" or the name of an exception, for each call
        self.availability = Availability(True, ModelState.READY)
        self.models = [Model(f"{name}_model")]
        self.default: Step = "ok"
        self._steps: deque[Step] = deque()

    def enqueue(self, *steps: Step) -> None:
        self._steps.extend(steps)

    async def generate_response(self, request: GenerationRequest) -> Completion:
        async with self._tracked(request):
            return await self._complete()

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Progress | Completion, None]:
        async with self._tracked(request):
            sent: list[Delta] = []
            for event in await self._list_events():
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, Delta):
                    sent.append(event)
                if isinstance(event, Completion):
                    return
            yield Completion(_join(sent), FinishReason.STOP, USAGE)

    async def score(self, request: ScoringRequest) -> Scoring:
        async with self._tracked(request):
            await self._complete()
            tokens = TokenTrace(ids=(1,), logprobs=(-1.0,))
            return Scoring((Score(-1.0, False, tokens),) * len(request.continuations), usage=USAGE)

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        async with self._tracked(request):
            await self._complete()
            return TokenCount(3)

    async def is_model_available(self, model: str) -> Availability:
        if self._steps:
            await self._complete()
        return self.availability

    async def get_available_models(self) -> Sequence[Model]:
        if self._steps:
            await self._complete()
        return self.models

    def _next(self) -> Step:
        return self._steps.popleft() if self._steps else self.default

    async def _complete(self) -> Completion:
        match self._next():
            case str(text):
                return completion(text)
            case Completion() as whole:
                return whole
            case Exception() as error:
                raise error
            case step if callable(step):
                return completion(await step())
            case step:
                raise AssertionError(f"{step} is for a stream")

    async def _list_events(self) -> Sequence[Event]:
        match self._next():
            case str(text):
                return [Delta(text=text)]
            case (Completion() | Exception()) as event:
                return [event]
            case step if callable(step):
                return [Delta(text=await step())]
            case step:
                return step

    @asynccontextmanager
    async def _tracked(
        self, request: GenerationRequest | ScoringRequest | CountRequest
    ) -> AsyncIterator[None]:
        self.history.append(request)
        self.running += 1
        end = "done"
        try:
            yield
        except BaseException as error:
            end = type(error).__name__
            raise
        finally:
            self.running -= 1
            self.ended.append(end)


def _join(deltas: Sequence[Delta]) -> Message:
    """Return the message that text, reasoning and refusal of the deltas add up to."""
    parts: list[Part] = []
    for delta in deltas:
        pieces: tuple[tuple[type[Text | Reasoning | Refusal], str | None], ...] = (
            (Reasoning, delta.reasoning),
            (Text, delta.text),
            (Refusal, delta.refusal),
        )
        for kind, piece in pieces:
            if not piece:
                continue
            if parts and isinstance(last := parts[-1], kind):
                parts[-1] = kind(last.text + piece)
            else:
                parts.append(kind(piece))
    return Message("assistant", parts)


class Gate:
    """A step that ends when the test says so."""

    def __init__(self, outcome: str | Exception = "ok") -> None:
        self._opened = asyncio.Event()
        self._outcome = outcome

    def open(self) -> None:
        self._opened.set()

    async def __call__(self) -> str:
        await self._opened.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


async def hang() -> str:
    """A step that ends only by cancellation or a deadline."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


class PromptedBackend(ScriptedBackend):
    """Obeys the prompts "hang", "until FILE" (wait until it exists), "drip" (an endless stream)
    and "bug" (an unexpected error); the reply to any other prompt is `says`."""

    def __init__(self, name: str, says: str) -> None:
        super().__init__(name)
        self.says = says

    async def generate_response(self, request: GenerationRequest) -> Completion:
        match request.input:
            case "hang":
                self.enqueue(hang)
            case "bug":
                self.enqueue(RuntimeError("bug"))
            case str(prompt) if prompt.startswith("until "):
                self.enqueue(partial(self._until, Path(prompt.removeprefix("until ").strip())))
            case _:
                self.enqueue(self.says)
        return await super().generate_response(request)

    async def _until(self, file: Path) -> str:
        await eventually(file.exists)
        return self.says

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Progress | Completion, None]:
        async with self._tracked(request):
            if request.input == "hang":
                await hang()
            while request.input == "drip":
                yield Delta(text="x" * 1000)
                await asyncio.sleep(0.001)
            yield Delta(text=self.says)
            yield completion(self.says)

    async def is_model_available(self, model: str) -> Availability:
        return Availability(True, ModelState.READY, load=EngineLoad(running=self.running))


@asynccontextmanager
async def serving(
    service: Service, listen: str = "127.0.0.1:0", config: ServiceConfig | None = None
) -> AsyncIterator[Server]:
    """Serve on a real socket; by default on a free port. config: of its connections."""
    server = Server(service, listen, config=config)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(grace=0)


@asynccontextmanager
async def scripted(name: str = "hf") -> AsyncIterator[tuple[ScriptedBackend, Server]]:
    """Serve a scripted backend; yield it and its server."""
    backend = ScriptedBackend(name)
    async with serving(LlmServicer(backend)) as server:
        yield backend, server


if __name__ == "__main__":
    configure_logging()
    listen, name, says = sys.argv[1:]
    run(LlmServicer(PromptedBackend(name, says)), listen)
