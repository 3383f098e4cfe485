"""Equal calls at the same time cost one call, also of several routers that share a store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.common import errors
from tests.support.caching_router import GREEDY, RPCS, Open, Stack
from tests.support.scripted import Gate, hang
from tests.support.waiting import eventually
from tests.support.wire import failure, reason, request


class Spy:
    """Counts the calls of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.calls = 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        return self._function(*arguments)


@pytest.mark.parametrize("first", ["Generate", "StreamGenerate"])
@RPCS
async def test_equal_calls_at_the_same_time_cost_one(stack: Stack, first: str, rpc: str) -> None:
    gate = Gate()
    stack.backend.enqueue(gate)
    counts = stack.router.cache.counts
    async with asyncio.TaskGroup() as group:
        leader = group.create_task(stack.ask(first))
        await eventually(lambda: stack.backend.running)
        others = [group.create_task(stack.ask(rpc)) for _ in range(5)]
        await eventually(lambda: counts.joined == 5)
        gate.open()
    assert not leader.result().cached
    assert [task.result().cached for task in others] == [True] * 5
    assert len(stack.backend.history) == 1


@pytest.fixture(params=["file", "server"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    """A store that several routers share."""
    if request.param == "file":
        return tmp_path / "shared.sqlite"
    request.getfixturevalue("valkey_client").flushall()
    return request.getfixturevalue("valkey_url")


@RPCS
async def test_equal_calls_of_two_routers_at_the_same_time_cost_one(
    open_stack: Open, shared: object, rpc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call takes longer than a claim lasts, which is renewed."""
    monkeypatch.setattr("router.cache.cache.CLAIM_SECONDS", 1.5)
    async with open_stack(store=shared) as one, open_stack(store=shared) as two:
        gate = Gate()
        one.backend.enqueue(gate)
        first = asyncio.ensure_future(one.ask())
        await eventually(lambda: one.backend.running)
        waiting = [asyncio.ensure_future(two.ask(rpc)) for _ in range(2)]
        await eventually(lambda: two.router.cache.counts.joined == 1)
        renewed = Spy(two.router.cache._store.get)
        monkeypatch.setattr(two.router.cache._store, "get", renewed)
        begun = time.monotonic()
        await eventually(lambda: renewed.calls > 3 and time.monotonic() > begun + 2)
        gate.open()
        assert not (await first).cached
        assert [(await task).cached for task in waiting] == [True, True]
    assert len(one.backend.history) == 1


async def test_if_a_call_fails_another_router_makes_its_own(
    open_stack: Open, shared: object
) -> None:
    async with open_stack(store=shared) as one, open_stack(store=shared) as two:
        gate = Gate(errors.RateLimited("slow"))
        one.backend.enqueue(gate)
        first = asyncio.ensure_future(failure(one.llm.Generate(request(**GREEDY))))
        await eventually(lambda: one.backend.running)
        second = asyncio.ensure_future(two.ask())
        await eventually(lambda: two.router.cache._leases)
        gate.open()
        assert reason(await first) == "RATE_LIMITED"
        assert not (await second).cached


async def test_a_router_that_has_ended_blocks_no_other(
    open_stack: Open, shared: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_stack(store=shared) as stack:
        cache = stack.router.cache
        claimed: list[Any] = []
        claim = cache._store.claim

        async def claim_second(*place: Any) -> bool:
            if not claimed:  # a router that ends now was faster
                claimed.append(await claim(*place[:2], "another", 0.2))
            claimed.append(await claim(*place))
            return bool(claimed[-1])

        monkeypatch.setattr(cache._store, "claim", claim_second)
        assert not (await stack.ask()).cached
        assert (claimed[:2], claimed[-1]) == ([True, False], True)


@RPCS
async def test_if_the_first_of_equal_calls_fails_the_others_make_their_own(
    stack: Stack, rpc: str
) -> None:
    gate = Gate(errors.RateLimited("slow"))
    stack.backend.enqueue(gate)
    leader = asyncio.ensure_future(failure(getattr(stack.llm, rpc)(request(**GREEDY))))
    await eventually(lambda: stack.backend.running)
    other = asyncio.ensure_future(stack.ask(rpc))
    await eventually(lambda: stack.router.cache.counts.joined)
    gate.open()
    assert reason(await leader) == "RATE_LIMITED"
    assert (await other).text == "ok"


@RPCS
async def test_a_cancelled_call_is_not_kept_and_those_that_wait_go_on(
    stack: Stack, rpc: str
) -> None:
    stack.backend.enqueue(hang)
    leader = getattr(stack.llm, rpc)(request(**GREEDY))
    reading = asyncio.ensure_future(failure(leader))
    await eventually(lambda: stack.backend.running)
    other = asyncio.ensure_future(stack.ask(rpc))
    await eventually(lambda: stack.router.cache.counts.joined)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not (await other).cached
    assert stack.router.cache.counts.kept == 1


@RPCS
async def test_a_call_that_the_router_refuses_blocks_no_equal_one(
    stack: Stack, rpc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise errors.QuotaExceeded("used up")

    with monkeypatch.context() as patched:
        patched.setattr(stack.router._access, "admit", refuse)
        assert reason(await failure(getattr(stack.llm, rpc)(request(**GREEDY)))) == "QUOTA_EXCEEDED"
    assert (await stack.ask(rpc)).text == "ok"


async def test_a_stream_that_waits_for_an_equal_call_shows_signs_of_life(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.cache.call.PROGRESS_SECONDS", 0.01)
    for text in ("ok", errors.RateLimited("slow")):
        gate = Gate(text)
        stack.backend.enqueue(gate)
        fields = {"prompt": str(text), **GREEDY}
        leader = asyncio.ensure_future(stack.llm.Generate(request(**fields)))
        await eventually(lambda: stack.backend.running)
        call = stack.llm.StreamGenerate(request(**fields))
        events = [await anext(aiter(call)) for _ in range(3)]
        gate.open()
        events += [event async for event in call]
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds[:3] == ["start", "progress", "progress"]
        assert (kinds.count("start"), kinds[-2:]) == (1, ["delta", "completion"])
        assert [event.sequence for event in events] == list(range(len(events)))
        assert events[-1].completion.cached == isinstance(text, str)
        await asyncio.wait([leader])
        leader.exception()
