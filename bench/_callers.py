"""`python -m bench._callers WAY TARGET CALLERS SECONDS`: a game process, and what it costs.

Callers at once ask for one move after another; prints calls, elapsed seconds, the
process's own CPU seconds and latencies as JSON. Plain asyncio, as in a game.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Call = Callable[[], Awaitable[Any]]

PROMPT = "Your move? " * 25
BODY = {"model": "a/b", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8}


@asynccontextmanager
async def arena(target: str) -> AsyncIterator[Call]:
    """This system's client; target: host:port of router or service."""
    from arena_llm import AsyncClient

    async with AsyncClient(target) as llm:
        yield lambda: llm.generate("openrouter_a/b", PROMPT, max_tokens=8)


@asynccontextmanager
async def openai(target: str, **options: Any) -> AsyncIterator[Call]:
    """The official client; target: the base URL."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=target, api_key="none", **options) as client:
        yield lambda: client.chat.completions.create(**BODY)  # type: ignore[call-overload]


@asynccontextmanager
async def openai_aiohttp(target: str) -> AsyncIterator[Call]:
    """The official client over its aiohttp transport."""
    from openai import DefaultAioHttpClient

    async with openai(target, http_client=DefaultAioHttpClient()) as call:
        yield call


@asynccontextmanager
async def httpx(target: str) -> AsyncIterator[Call]:
    """Bare httpx."""
    import httpx

    async with httpx.AsyncClient() as client:

        async def call() -> Any:
            return (await client.post(f"{target}/chat/completions", json=BODY)).json()

        yield call


@asynccontextmanager
async def aiohttp(target: str) -> AsyncIterator[Call]:
    """What the service does, without limits, retries and the gRPC around it."""
    from services.common.hosted.keys import Keys
    from services.common.hosted.redaction import Redactor
    from services.openrouter.config import OpenRouterConfig
    from services.openrouter.upstream import Upstream

    config = OpenRouterConfig(listen="127.0.0.1:0", base_url=target, dialect="openai", models=[])
    upstream = Upstream(config, Keys(frozenset(), {}), Redactor([]))
    try:
        yield lambda: upstream.complete(BODY, 60)
    finally:
        await upstream.aclose()


WAYS = {way.__name__: way for way in (arena, openai, openai_aiohttp, httpx, aiohttp)}


async def measure(way: str, target: str, callers: int, seconds: float) -> dict[str, Any]:
    latencies: list[float] = []
    async with WAYS[way](target) as call:
        await asyncio.gather(*(call() for _ in range(2 * callers)))
        cpu, start = time.process_time(), time.perf_counter()

        async def caller() -> None:
            while (begun := time.perf_counter()) < start + seconds:
                await call()
                latencies.append(time.perf_counter() - begun)

        await asyncio.gather(*(caller() for _ in range(callers)))
        elapsed = time.perf_counter() - start
        return {
            "calls": len(latencies),
            "seconds": elapsed,
            "cpu_seconds": time.process_time() - cpu,
            "latencies": latencies,
        }


if __name__ == "__main__":
    way, target, callers, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(way, target, int(callers), float(seconds)))))
