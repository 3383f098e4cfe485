"""The ways to the same engine that the vllm benchmark compares."""

from __future__ import annotations

import asyncio
import json
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from tempfile import TemporaryFile
from typing import Any, Protocol

from arena_llm import AsyncClient
from bench._vllm_load import MODEL, PYTHON, environment


@dataclass(frozen=True)
class Load:
    """One round: these prompts by so many callers, `tokens` each."""

    prompts: list[str]
    callers: int
    tokens: int
    stream: bool = False


@dataclass(frozen=True)
class Measured:
    """`first`: seconds to the first token, of streams, one for each prompt."""

    tokens: int
    seconds: float
    first: list[float]


class Way(Protocol):
    async def __call__(self, load: Load) -> Measured: ...


#: Answers a prompt; returns its tokens and the time of its first, where that is seen.
Ask = Callable[[str, int], Awaitable[tuple[int, float]]]


async def _measure(ask: Ask, load: Load) -> Measured:
    made, first = 0, []
    work = iter(load.prompts)

    async def caller() -> None:
        nonlocal made
        for prompt in work:
            begun = time.perf_counter()
            tokens, seen = await ask(prompt, load.tokens)
            made += tokens
            first.append(seen - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(load.callers)))
    elapsed = time.perf_counter() - begun
    assert made == load.tokens * len(load.prompts), f"{made} tokens"
    return Measured(made, elapsed, first if load.stream else [])


@asynccontextmanager
async def arena(target: str) -> AsyncIterator[Way]:
    """This system's client; target: the router or the service."""
    async with AsyncClient(target) as llm:

        async def whole(prompt: str, tokens: int) -> tuple[int, float]:
            reply = await llm.generate(MODEL, prompt, max_tokens=tokens, temperature=0)
            return reply.usage.completion_tokens, 0.0

        async def stream(prompt: str, tokens: int) -> tuple[int, float]:
            first = 0.0
            answer = llm.stream(MODEL, prompt, max_tokens=tokens, temperature=0)
            async for _ in answer:
                first = first or time.perf_counter()
            return answer.completion.usage.completion_tokens, first

        yield lambda load: _measure(stream if load.stream else whole, load)


@asynccontextmanager
async def openai(url: str) -> AsyncIterator[Way]:
    """The official client to `vllm serve`; whole replies."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

        async def whole(prompt: str, tokens: int) -> tuple[int, float]:
            reply = await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": prompt}],
                max_tokens=tokens,
                temperature=0,
            )
            assert reply.usage is not None
            return reply.usage.completion_tokens, 0.0

        yield lambda load: _measure(whole, load)


@asynccontextmanager
async def bare(folder: str) -> AsyncIterator[Way]:
    """vLLM by itself; ready when this yields."""
    with TemporaryFile("w+") as log:
        process = await asyncio.create_subprocess_exec(
            str(PYTHON), "-m", "bench._vllm_bare", folder,
            stdin=PIPE, stdout=PIPE, stderr=log, env=environment(), limit=1 << 24,
        )  # fmt: skip

        async def answer() -> Any:
            assert process.stdout is not None
            if not (line := await process.stdout.readline()):
                log.seek(0)
                raise RuntimeError(f"the bare engine has ended:\n{log.read()}")
            return json.loads(line)

        async def ask(load: Load) -> Measured:
            assert process.stdin is not None
            process.stdin.write(json.dumps(asdict(load)).encode() + b"\n")
            return Measured(**await answer())

        try:
            await answer()  # "ready"
            yield ask
        finally:
            assert process.stdin is not None
            process.stdin.close()  # the end of its input is its end
            await process.wait()
