"""The openrouter service against providers that limit calls: `python -m bench.rates`.

A thousand callers each ask again after each answer. Time runs ten times as fast as with a
provider that grants 50 calls a second: it grants 500, its windows last 0.1 and 1 s, an answer takes
0.1 s (median), and a call has 12 s. To reach: no call fails, 90 % of what is granted is used, and
at most 1.2 requests are sent for each answer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from arena_llm import ArenaError, AsyncClient
from bench import harness
from bench.limiters import FixedWindow, InFlight, Limiter, TokenBucket
from bench.provider import Provider, http_answer

CALLERS, DEADLINE, SECONDS = 1000, 12.0, 12.0
RATE = 500.0
BUCKET = RATE * SECONDS + 10
#: Seconds of an answer, on average, and calls that 20 places can take.
MEAN = 0.165
PLACES = 20 / MEAN * SECONDS

#: Limit, calls that can be granted, headers of a refusal, services.
WAYS: dict[str, tuple[Callable[[], Limiter], float, str, int]] = {
    "bucket of 10": (lambda: TokenBucket(RATE), BUCKET, "", 1),
    "bucket of 10, right hint": (lambda: TokenBucket(RATE), BUCKET, "right", 1),
    "bucket of 10, absurd hint": (lambda: TokenBucket(RATE), BUCKET, "4102444799", 1),
    "bucket of 10, two services": (lambda: TokenBucket(RATE), BUCKET, "", 2),
    "window of 1 s": (lambda: FixedWindow(0.1, RATE), RATE * SECONDS, "", 1),
    "window of 10 s": (lambda: FixedWindow(1.0, RATE), RATE * SECONDS, "", 1),
    "window of 10 s, absurd hint": (
        lambda: FixedWindow(1.0, RATE), RATE * SECONDS, "4102444799", 1),
    "20 in flight": (lambda: InFlight(20), PLACES, "", 1),
    "bucket of 10, halved": (
        lambda: TokenBucket(RATE, change=(6, RATE / 2)), RATE * SECONDS * 0.75, "", 1),
    "bucket of 10, doubled": (
        lambda: TokenBucket(RATE, change=(6, RATE * 2)), RATE * SECONDS * 1.5, "", 1),
}  # fmt: skip


class Limited(Provider):
    """A provider with a limit that all connections share."""

    def __init__(self, counts: Counts) -> None:
        super().__init__(0.0, 0.0)
        self._counts = counts

    def _answer(self, body: bytes) -> None:
        counts = self._counts
        if counts.arrive():
            seconds = min(6.0, max(0.02, random.lognormvariate(0, 1) / 10))
            asyncio.get_running_loop().call_later(seconds, self._finish, body)
            return
        hint = counts.hint()
        header = f"Retry-After: {hint}\r\n" if hint else ""
        refusal = http_answer(429, '{"error":{"code":429,"message":"slow down"}}', header)
        asyncio.get_running_loop().call_later(0.002, self._transport.write, refusal)

    def _finish(self, body: bytes) -> None:
        self._counts.limiter.end()
        super()._answer(body)


class Counts:
    """A limit, and how many calls came and were let in. It begins with the first call."""

    def __init__(self, limiter: Limiter, hint: str) -> None:
        self.limiter = limiter
        self.requests = self.granted = 0
        self._hint = hint
        self._begun = 0.0

    def arrive(self) -> bool:
        self._begun = self._begun or time.monotonic()
        self.requests += 1
        granted = self.limiter.arrive(time.monotonic() - self._begun)
        self.granted += granted
        return granted

    def hint(self) -> str:
        if self._hint != "right":
            return self._hint
        return f"{self.limiter.hint(time.monotonic() - self._begun):.3f}"


async def _measure(name: str) -> dict[str, float]:
    make, could, hint, services = WAYS[name]
    counts = Counts(make(), hint)
    server = await asyncio.get_running_loop().create_server(
        lambda: Limited(counts), "127.0.0.1", 0, backlog=2048
    )
    port = server.sockets[0].getsockname()[1]
    config: dict[str, Any] = {"base_url": f"http://127.0.0.1:{port}/api/v1", "models": []}
    with ExitStack() as stack:
        systems = [
            await asyncio.to_thread(
                harness.System, stack, "openrouter", config, {"OPENROUTER_API_KEY": "sk-none"}
            )
            for _ in range(services)
        ]
        figures = await _play([system.service for system in systems], counts, could)
        server.close()
    return figures


async def _play(targets: list[str], counts: Counts, could: float) -> dict[str, float]:
    """Let all callers ask for some seconds."""
    answered = failed = 0
    end = time.monotonic() + SECONDS

    async def ask(llm: AsyncClient) -> None:
        nonlocal answered, failed
        while time.monotonic() < end:
            try:
                await llm.generate("openrouter_a/b", harness.PROMPT, max_tokens=8)
                answered += 1
            except ArenaError:
                failed += 1

    clients = [AsyncClient(target, timeout=DEADLINE) for target in targets]
    tasks = [asyncio.create_task(ask(clients[n % len(clients)])) for n in range(CALLERS)]
    await asyncio.sleep(SECONDS)
    used = counts.granted / could
    await asyncio.gather(*tasks)
    for client in clients:
        await client.close()
    return {
        "failed": failed,
        "answered": answered,
        "used": used,
        "requests_per_answer": counts.requests / max(1, counts.granted),
    }


def main() -> None:
    results = {name: asyncio.run(_measure(name)) for name in WAYS}
    harness.print_ways(f"{CALLERS} callers, {SECONDS:g} s", results)
    harness.write_results("rates", results)


if __name__ == "__main__":
    main()
