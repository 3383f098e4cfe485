"""Random faults: every call ends with its own text or a typed error."""

from __future__ import annotations

import asyncio
import random

from arena_llm import ArenaError
from tests.support.upstreams.openrouter import OpenRouterUpstream
from tests.support.upstreams.server import Call, Fault, Reply, Step
from tests.unit.hosted.conftest import Start
from tests.unit.hosted.openrouter.conftest import MODEL


async def test_random_faults(start: Start, upstream: OpenRouterUpstream) -> None:
    """`python -m bench openrouter` has a longer version, which also watches memory."""
    dice = random.Random(7)  # noqa: S311 - not for security
    faults = [
        Fault(429, headers={"Retry-After": "0"}),
        Fault(500),
        Fault(529),
        Fault(reset=True),
        Fault(truncate=True),
        Fault(truncate=True, reset=True),
        Fault(empty=True),
        Fault(200, error={"code": 502}),
    ]

    def step(received: Call) -> Step:
        if dice.random() < 0.1:
            return dice.choice(faults)
        return Reply(received.body["messages"][0]["content"])

    upstream.default = step
    calls = 400

    async with start(max_attempts=3) as llm:
        free = asyncio.Semaphore(50)

        async def call(n: int) -> str | ArenaError:
            async with free:
                try:
                    if n % 2:
                        return (await llm.generate(MODEL, f"move {n}")).text
                    return "".join([delta async for delta in llm.stream(MODEL, f"move {n}")])
                except ArenaError as error:
                    return error

        ends = await asyncio.gather(*(call(n) for n in range(calls)))
    errors = [end for end in ends if isinstance(end, ArenaError)]
    assert {error.reason for error in errors} <= {"UPSTREAM_UNAVAILABLE"}
    for error in errors:
        assert error.report is not None
        reasons = [attempt.reason for attempt in error.report.attempts]
        assert len(reasons) - reasons.count("RATE_LIMITED") == 3
    good = sum(end == f"move {n}" for n, end in enumerate(ends))
    assert good + len(errors) == calls
    assert good > 0.98 * calls
    assert upstream.running == 0
