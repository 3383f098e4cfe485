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
from typing import Any

from arena_llm.types import (
    SAMPLING_PARAMETERS,
    Availability,
    Completion,
    Delta,
    EngineLoad,
    FinishReason,
    GenerationRequest,
    Model,
    ModelState,
    Score,
    Scoring,
    ScoringRequest,
    Usage,
)
from services.common.backend import BaseLLMBackend
from services.common.config import ServiceConfig
from services.common.log import configure_logging
from services.common.server import Server, Service, run
from services.common.servicer import LlmServicer
from tests.support.waiting import eventually

#: A step of the script: a text, an error, the deltas of a stream, or a function for a text.
Step = str | Exception | Sequence[Delta | Exception] | Callable[[], Awaitable[str]]


def completion(text: str, model: str) -> Completion:
    return Completion(text, FinishReason.STOP, Usage(3, 1), model)


class ScriptedBackend(BaseLLMBackend[ServiceConfig]):
    """Answers with the enqueued steps, in order; `history` has every request."""

    config_type = ServiceConfig
    parameters = frozenset(SAMPLING_PARAMETERS)
    constraints = frozenset({"choices", "json_schema", "regex"})
    takes_provider_options = True
    can_score = True

    def __init__(self, name: str = "hf") -> None:
        super().__init__(ServiceConfig(listen="127.0.0.1:0"))
        self.name = name  # type: ignore[misc]
        self.history: list[GenerationRequest | ScoringRequest] = []
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
            return completion(await self._text(), request.model)

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Completion, None]:
        async with self._tracked(request):
            step = self._steps.popleft() if self._steps else self.default
            text = ""
            for delta in [Delta(text=step)] if isinstance(step, str) else await _deltas(step):
                if isinstance(delta, Exception):
                    raise delta
                text += delta.text
                yield delta
            yield completion(text, request.model)

    async def score(self, request: ScoringRequest) -> Scoring:
        async with self._tracked(request):
            await self._text()
            scores = tuple(Score(text, -1.0, 1) for text in request.continuations)
            return Scoring(scores, Usage(3, 1), request.model)

    async def is_model_available(self, model: str) -> Availability:
        if self._steps:
            await self._text()
        return self.availability

    async def get_available_models(self) -> Sequence[Model]:
        if self._steps:
            await self._text()
        return self.models

    async def _text(self) -> str:
        step = self._steps.popleft() if self._steps else self.default
        if isinstance(step, str):
            return step
        if isinstance(step, Exception):
            raise step
        assert callable(step), "deltas are for streams"
        return await step()

    @asynccontextmanager
    async def _tracked(self, request: GenerationRequest | ScoringRequest) -> AsyncIterator[None]:
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


async def _deltas(step: Any) -> Sequence[Delta | Exception]:
    if isinstance(step, Exception):
        return [step]
    return [Delta(text=await step())] if callable(step) else step


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
                self.enqueue(partial(self._until, Path(prompt.removeprefix("until "))))
            case _:
                self.enqueue(self.says)
        return await super().generate_response(request)

    async def _until(self, file: Path) -> str:
        await eventually(file.exists)
        return self.says

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Completion, None]:
        async with self._tracked(request):
            if request.input == "hang":
                await hang()
            while request.input == "drip":
                yield Delta(text="x" * 1000)
                await asyncio.sleep(0.001)
            yield Delta(text=self.says)
            yield completion(self.says, request.model)

    async def is_model_available(self, model: str) -> Availability:
        return Availability(True, ModelState.READY, load=EngineLoad(running=self.running))


@asynccontextmanager
async def serving(service: Service, listen: str = "127.0.0.1:0") -> AsyncIterator[Server]:
    """Serve on a real socket; by default on a free port."""
    server = Server(service, listen)
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
