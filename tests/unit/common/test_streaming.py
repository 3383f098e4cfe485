"""The events of a stream, seen by its caller: signs of life, and a reader that is slow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arena_llm.types import CallReport, Delta, Progress, ProgressState
from arena_llm.v1 import generate_pb2
from services.common import streaming
from services.common.errors import RateLimited
from services.common.servicer import LlmServicer
from tests.support.scripted import Gate, ScriptedBackend, completion, scripted, serving
from tests.support.waiting import eventually
from tests.support.wire import failure, reason, request, stub


async def test_a_silent_stream_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PROGRESS_SECONDS", 0.02)
    gate = Gate()
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(gate)
        events = aiter(llm.StreamGenerate(request()))
        kinds = [(await anext(events)).WhichOneof("event") for _ in range(4)]
        assert kinds == ["start", "progress", "progress", "progress"]
        gate.open()
        rest = [event async for event in events]
    assert [event.WhichOneof("event") for event in rest if not event.HasField("progress")] == [
        *("delta", "completion"),
    ]


async def test_a_sign_of_life_says_what_the_stream_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "PROGRESS_SECONDS", 0.02)
    gates = [Gate() for _ in range(3)]

    class Slow(ScriptedBackend):
        forwards_calls = True

        async def stream_response(self, request: Any) -> Any:
            await gates[0]()
            yield Progress(ProgressState.QUEUED, queue_position=2)
            await gates[1]()
            yield Delta("ok")
            await gates[2]()
            yield completion("ok")

    seen: list[Any] = []
    async with serving(LlmServicer(Slow())) as server, stub(server.address) as llm:
        async for event in llm.StreamGenerate(request()):
            if not event.HasField("progress"):
                continue
            progress = (event.progress.state, event.progress.queue_position)
            if progress not in seen:
                seen.append(progress)
                # The backend's own sign comes once; it is repeated during silence.
                gates[len(seen) - 1].open()
    assert seen == [
        (generate_pb2.PROGRESS_STATE_WAITING, 0),
        (generate_pb2.PROGRESS_STATE_QUEUED, 2),
        (generate_pb2.PROGRESS_STATE_GENERATING, 0),
    ]


async def test_a_stream_that_shares_a_call_gives_signs_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "PROGRESS_SECONDS", 0.02)
    gate = Gate()
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(gate)
        first = llm.Generate(request(request_id="r-1"))
        await eventually(lambda: backend.running)
        events = aiter(llm.StreamGenerate(request(request_id="r-1")))
        kinds = [(await anext(events)).WhichOneof("event") for _ in range(3)]
        assert kinds == ["start", "progress", "progress"]
        gate.open()
        last = [event async for event in events][-1]
        assert (last.completion.text, (await first).text) == ("ok", "ok")


async def test_a_failure_that_the_caller_of_a_stream_got_is_not_reported_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[str] = []
    async with scripted() as (backend, server), stub(server.address) as llm:
        monkeypatch.setattr(
            backend, "keep_report", lambda request_id, report: kept.append(request_id)
        )
        error = RateLimited("slow down", report=CallReport())
        backend.enqueue(error)
        events = llm.StreamGenerate(request(request_id="r-1"))
        assert reason(await failure(_read(events))) == "RATE_LIMITED"
    assert kept == []


async def _read(events: Any) -> list[Any]:
    return [event async for event in events]


async def test_a_slow_reader_slows_the_backend() -> None:
    """What the backend makes and nobody reads must not fill the memory."""
    made = 0

    class Fast(ScriptedBackend):
        async def stream_response(self, request: Any) -> Any:
            nonlocal made
            for made in range(1_000):  # noqa: B007 - it counts
                yield Delta("x" * 100_000)

    async with serving(LlmServicer(Fast())) as server, stub(server.address) as llm:
        events = llm.StreamGenerate(request())
        await anext(aiter(events))
        before = -1
        while made != before:  # until it stops
            before = made
            await asyncio.sleep(0.1)
        assert made < 200
        events.cancel()
