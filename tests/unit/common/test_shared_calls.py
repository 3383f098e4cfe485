"""The same request_id does not pay twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from arena_llm.types import (
    Completion,
    FinishReason,
    Message,
    Text,
    ToolCall,
)
from arena_llm.v1 import content_pb2, generate_pb2, reply_pb2, service_info_pb2
from services.common.config import ServiceConfig
from services.common.errors import RateLimited
from services.common.servicer import LlmServicer
from services.common.shared_calls import SharedCalls, digest_request
from tests.support.scripted import USAGE, Gate, ScriptedBackend, hang, scripted, serving
from tests.support.waiting import eventually
from tests.support.wire import details, failure, reason, request, score_request, stub

BOTH = pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])


async def call(llm: Any, rpc: str, asked: Any) -> Any:
    """Return the completion of a call, unary or streamed."""
    if rpc == "Generate":
        return await llm.Generate(asked)
    return [event async for event in llm.StreamGenerate(asked)][-1].completion


@asynccontextmanager
async def served(backend: ScriptedBackend, **settings: Any) -> AsyncIterator[Any]:
    backend.config = ServiceConfig(listen="127.0.0.1:0", **settings)
    async with serving(LlmServicer(backend)) as server, stub(server.address) as llm:
        yield llm


@BOTH
async def test_a_repeated_request_gets_the_reply_of_the_first(rpc: str) -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue("e4", "d4")
        first = await call(llm, rpc, request(request_id="r-1"))
        # Hints do not count.
        hints = request(request_id="r-1", session="other", labels={"try": "2"})
        for other in ("Generate", "StreamGenerate"):
            again = await call(llm, other, hints)
            assert (again.text, again.replayed, again.usage) == ("e4", True, first.usage)
            assert again.request_id == "r-1"
    assert not first.replayed
    assert len(backend.history) == 1


@BOTH
async def test_a_request_without_an_id_is_a_new_one(rpc: str) -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue("e4", "d4")
        assert [(await call(llm, rpc, request())).text for _ in range(2)] == ["e4", "d4"]


@BOTH
async def test_another_request_with_the_same_id_is_refused(rpc: str) -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        await llm.Generate(request(request_id="r-1"))
        error = await failure(getattr(llm, rpc)(request(prompt="other", request_id="r-1")))
    assert (error.code(), reason(error)) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    violation: Any = details(error)["BadRequest"]
    assert violation.field_violations[0].field == "request_id"
    assert len(backend.history) == 1


@BOTH
async def test_a_caller_joins_the_call_that_runs(rpc: str) -> None:
    gate = Gate("e4")
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(gate)
        asked = request(request_id="r-1")
        calls = [asyncio.create_task(call(llm, rpc, asked)) for _ in range(3)]
        await eventually(lambda: backend.running)
        # The other request is refused while the first one runs.
        other = await failure(llm.Generate(request(prompt="other", request_id="r-1")))
        gate.open()
        replies = await asyncio.gather(*calls)
    assert reason(other) == "REQUEST_ID_REUSED"
    assert [reply.text for reply in replies] == ["e4"] * 3
    assert sorted(reply.replayed for reply in replies) == [False, True, True]
    assert len(backend.history) == 1


@BOTH
async def test_a_call_ends_when_its_last_caller_leaves(rpc: str) -> None:
    gate = Gate("e4")
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(gate, "e5", "d4")
        asked = request(request_id="r-1")
        first, second = (asyncio.create_task(call(llm, rpc, asked)) for _ in range(2))
        await eventually(lambda: backend.running)
        # It is sent after both on the same connection, so they have arrived.
        assert (await call(llm, rpc, request(request_id="r-2"))).text == "e5"
        first.cancel()
        await asyncio.wait((first,))
        assert backend.running == 1
        second.cancel()
        await eventually(lambda: "CancelledError" in backend.ended)
        # Nothing was kept: it is called again.
        assert (await call(llm, rpc, asked)).text == "d4"


async def test_scores_are_shared_too() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        first, second = [await llm.Score(score_request(request_id="r-1")) for _ in range(2)]
        assert first == second
        assert len(backend.history) == 1
        # An id stands for one request of any kind.
        error = await failure(llm.Generate(request(request_id="r-1")))
        assert reason(error) == "REQUEST_ID_REUSED"


async def test_a_cancelled_unary_call_to_a_provider_runs_to_its_end() -> None:
    """It is billed anyway, and its reply is kept. A stream is cancelled."""
    gate = Gate("e4")
    backend = ScriptedBackend()
    backend.forwards_calls = True  # type: ignore[misc]
    async with served(backend) as llm:
        backend.enqueue(gate, hang)
        task = asyncio.create_task(llm.Generate(request(request_id="r-1")).code())
        running = llm.Generate(request(request_id="r-1"))
        await eventually(lambda: backend.running)
        running.cancel()
        task.cancel()
        gate.open()
        await eventually(lambda: backend.ended == ["done"])
        again = await llm.Generate(request(request_id="r-1"))
        assert (again.text, again.replayed) == ("e4", True)
        stream = llm.StreamGenerate(request(request_id="r-2"))
        await eventually(lambda: backend.running)
        stream.cancel()
        await eventually(lambda: backend.ended == ["done", "CancelledError"])
        # Without an id nobody could ask for the reply.
        backend.enqueue(hang)
        plain = llm.Generate(request())
        await eventually(lambda: backend.running)
        plain.cancel()
        await eventually(lambda: backend.ended == ["done", *["CancelledError"] * 2])


@BOTH
async def test_failures_are_not_kept(rpc: str) -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(RateLimited("slow down"), "e4")
        asked = request(request_id="r-1")
        assert reason(await failure(getattr(llm, rpc)(asked))) == "RATE_LIMITED"
        reply = await call(llm, rpc, asked)
    assert (reply.text, reply.replayed) == ("e4", False)


async def test_a_replayed_stream_has_every_part() -> None:
    whole = Completion(
        Message("assistant", (Text("I move"), ToolCall("c1", "move", "{}"))),
        FinishReason.TOOL_CALLS,
        USAGE,
    )
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(whole)
        first = await llm.Generate(request(request_id="r-1"))
        events = [event async for event in llm.StreamGenerate(request(request_id="r-1"))]
    assert [event.WhichOneof("event") for event in events] == [
        *("start", "delta", "delta", "completion"),
    ]
    assert [event.sequence for event in events] == [0, 1, 2, 3]
    assert events[0].start.replayed
    assert events[1].delta.text == "I move"
    assert events[2].delta.tool_call.id == "c1"
    assert events[-1].completion.message == first.message


async def test_the_window_can_be_turned_off_and_is_shown() -> None:
    for seconds, texts in ((0, ["e4", "d4"]), (60, ["e4", "e4"])):
        backend = ScriptedBackend()
        backend.enqueue("e4", "d4")
        async with served(backend, request_id_seconds=seconds) as llm:
            asked = request(request_id="r-1")
            assert [(await llm.Generate(asked)).text for _ in range(2)] == texts
            info = await llm.GetServiceInfo(service_info_pb2.GetServiceInfoRequest())
            assert info.limits.request_id_seconds == seconds


def reply(size: int) -> Any:
    async def run() -> bytes:
        return reply_pb2.GenerateResponse(id="x" * size).SerializeToString()

    return run()


async def test_a_call_that_ends_before_it_began_leaves_nothing_behind() -> None:
    calls = SharedCalls(60, 1_000)
    call = calls.start("a", b"digest", reply(1))
    call.enter()
    call.leave()
    with pytest.raises(asyncio.CancelledError):
        await call.join()
    assert calls.find("a", b"digest") is None
    await calls.start("a", b"digest", reply(1)).join()
    assert calls.find("a", b"digest") is not None


async def test_a_call_begins_after_the_end_of_an_abandoned_one_with_its_id() -> None:
    """At its end a call notes what it has paid, and the next one reports that."""
    calls = SharedCalls(60, 10**6)
    events: list[str] = []
    noted = asyncio.Event()

    async def abandoned() -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            await noted.wait()
            events.append("noted")
        return b""

    async def following(name: str) -> bytes:
        events.append(name)
        return name.encode()

    async def leave(run: Coroutine[Any, Any, bytes]) -> None:
        caller = asyncio.create_task(calls.start("id", b"digest", run).join())
        for _ in range(5):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        assert calls.find("id", b"digest") is None

    await leave(abandoned())
    await leave(following("second"))  # it never began
    third = asyncio.create_task(calls.start("id", b"digest", following("third")).join())
    for _ in range(5):
        await asyncio.sleep(0)
    assert events == []
    noted.set()
    assert await third == calls.find("id", b"digest") == b"third"
    assert events == ["noted", "third"]


async def test_kept_replies_are_bounded_in_bytes() -> None:
    calls = SharedCalls(60, 2_000)
    for name in ("a", "b", "c"):
        await calls.start(name, b"digest", reply(400)).join()
    assert [calls.find(name, b"digest") is not None for name in "abc"] == [False, True, True]
    await calls.start("large", b"digest", reply(5_000)).join()
    assert calls.find("large", b"digest") is None


async def test_a_reply_that_no_caller_got_is_given_back_when_it_is_dropped() -> None:
    dropped: list[str] = []
    calls = SharedCalls(60, 1_500, on_dropped=lambda request_id, data: dropped.append(request_id))
    await calls.start("heard", b"digest", reply(400)).join()
    for name in ("unheard", "found"):
        await calls.start(name, b"digest", reply(400), runs_to_its_end=True).task
    assert calls.find("found", b"digest") is not None
    await calls.start("large", b"digest", reply(5_000)).join()
    assert dropped == ["unheard"]


@pytest.mark.parametrize("size", [400, 5_000])
async def test_a_reply_on_its_way_to_a_cancelled_caller_is_given_back(size: int) -> None:
    """The caller is cancelled in the same turn of the event loop in which the call ends."""
    dropped: list[str] = []
    calls = SharedCalls(60, 1_500, on_dropped=lambda request_id, data: dropped.append(request_id))
    await _cancel_as_it_ends(calls, reply(size))
    await calls.start("large", b"digest", reply(5_000)).join()
    assert dropped == ["id"]


async def test_a_failure_on_its_way_to_a_cancelled_caller_is_given_back() -> None:
    unheard: list[tuple[str, str]] = []
    calls = SharedCalls(
        60, 1_500, on_unheard=lambda request_id, error: unheard.append((request_id, str(error)))
    )

    async def fail() -> bytes:
        raise RateLimited("slow down")

    await _cancel_as_it_ends(calls, fail())
    assert unheard == [("id", "slow down")]
    others = await _cancel_as_it_ends(calls, fail(), other_callers=1)
    assert isinstance(others[0].exception(), RateLimited)
    assert len(unheard) == 1  # a caller got it


async def _cancel_as_it_ends(
    calls: SharedCalls, run: Coroutine[Any, Any, bytes], *, other_callers: int = 0
) -> list[asyncio.Task[bytes]]:
    """Return the other callers, which have ended."""

    async def end() -> bytes:
        await asyncio.sleep(0)  # the callers wait now
        # In the next turn, before the caller wakes with the result.
        asyncio.get_running_loop().call_soon(caller.cancel)
        return await run

    call = calls.start("id", b"digest", end())
    caller, *others = [asyncio.create_task(call.join()) for _ in range(1 + other_callers)]
    await asyncio.wait([caller, *others])
    assert caller.cancelled()
    return others


async def test_a_score_that_nobody_got_has_no_attempts_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its bytes are those of another message than a completion's. The next call drops it."""
    gate, kept = Gate(), list[str]()
    backend = ScriptedBackend()
    backend.forwards_calls = True  # type: ignore[misc]
    backend.enqueue(gate)
    monkeypatch.setattr(backend, "keep_report", lambda request_id, report: kept.append(request_id))
    async with served(backend, request_id_seconds=60, request_id_bytes=600) as llm:
        left = llm.Score(score_request(request_id="r-1"))
        await eventually(lambda: backend.running)
        left.cancel()
        await eventually(lambda: "status=CANCELLED" in capsys.readouterr().err)
        gate.open()
        await eventually(lambda: not backend.running)
        await llm.Generate(request(request_id="r-2"))
        await llm.Generate(request(request_id="r-3"))
    assert kept == []


async def test_what_a_call_cost_is_reported_once_if_callers_leave_at_any_moment() -> None:
    """Random callers of one call, of which some are cancelled, in any turn of the event loop."""
    dice = random.Random(7)  # noqa: S311 - no secret
    for _ in range(2_000):
        reported: list[str] = []
        calls = SharedCalls(
            60,
            dice.choice([0, 10**6]),
            on_unheard=lambda request_id, error: reported.append("failure"),  # noqa: B023
            on_dropped=lambda request_id, reply: reported.append("reply"),  # noqa: B023
        )
        turns, fails = dice.randint(1, 5), dice.random() < 0.5

        async def run() -> bytes:
            for _ in range(turns):  # noqa: B023
                await asyncio.sleep(0)
            if fails:  # noqa: B023
                raise RateLimited("slow down")
            return b"reply"

        call = calls.start("id", b"digest", run(), runs_to_its_end=True)
        callers = [asyncio.create_task(call.join()) for _ in range(dice.randint(1, 3))]
        leaving = [dice.choice([None, *range(7)]) for _ in callers]
        for turn in range(8):
            for caller, moment in zip(callers, leaving, strict=True):
                if moment == turn:
                    caller.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([*callers, call.task])
        calls._seconds = 0  # what is kept is dropped now
        calls.find("another", b"digest")
        heard = not all(caller.cancelled() for caller in callers)
        assert reported == [] if heard else reported == ["failure" if fails else "reply"]


async def test_kept_replies_end_with_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("services.common.shared_calls.time.monotonic", lambda: now)
    calls = SharedCalls(60, 1_000)
    await calls.start("a", b"digest", reply(1)).join()
    now = 159.0
    assert calls.find("a", b"digest") is not None
    now = 161.0
    assert calls.find("a", b"other digest") is None


def test_the_digest_has_everything_but_hints() -> None:
    def talk(**more: Any) -> Any:
        part = content_pb2.Part(text="hi")
        if more.pop("cached", False):
            part.cache.ttl_seconds = 5
        message = content_pb2.Message(role=content_pb2.ROLE_USER, parts=[part])
        conversation = content_pb2.Conversation(messages=[message])
        return generate_pb2.GenerateRequest(model="hf_x", conversation=conversation, **more)

    same = {
        digest_request(asked)
        for asked in (
            talk(),
            talk(cached=True),
            talk(session="s", request_id="r", labels={"a": "b"}),
        )
    }
    assert len(same) == 1
    for other in (talk(provider_options_json="{}"), talk(config={"seed": 0}), talk(config={})):
        assert digest_request(other) not in same
