"""The order in which tenants' calls get the places of an engine."""

from __future__ import annotations

import asyncio

from services.common.turns import Turns


class Calls:
    """Calls that run until they are ended."""

    def __init__(self, places: int) -> None:
        self.turns = Turns(places)
        self.running: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def begin(self, *names: str) -> None:
        """The tenant is the first letter; that of "-" has none."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._run(name))
        await settle()

    async def _run(self, name: str) -> None:
        async with self.turns.take(name[0].strip("-")):
            self.running.append(name)
            try:
                await self._ends[name].wait()
            finally:
                self.running.remove(name)

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
        await settle()

    async def leave(self, *names: str) -> None:
        """Their callers leave."""
        for name in names:
            self._tasks[name].cancel()
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_tenants_take_turns_and_each_waits_in_its_own_order() -> None:
    calls = Calls(2)
    await calls.begin("a1", "a2", "a3", "a4", "b1", "b2")
    assert (calls.running, calls.turns.waiting) == (["a1", "a2"], 4)
    for ended, running in (
        ("a1", ["a2", "a3"]),
        ("a2", ["a3", "b1"]),
        ("a3", ["b1", "a4"]),
        ("b1", ["a4", "b2"]),
    ):
        await calls.end(ended)
        assert calls.running == running
    await calls.end("a4", "b2")
    assert (calls.running, calls.turns.waiting) == ([], 0)


async def test_a_call_that_leaves_gives_its_place_or_its_turn_to_the_next() -> None:
    calls = Calls(1)
    await calls.begin("a1", "a2", "b1", "b2")
    await calls.leave("a2", "b1")
    assert calls.turns.waiting == 1
    await calls.leave("a1")
    assert calls.running == ["b2"]
    await calls.begin("a3")
    # The turn comes in the same moment in which the caller leaves.
    calls._ends["b2"].set()
    calls._tasks["b2"].add_done_callback(lambda _: calls._tasks["a3"].cancel())
    await settle()
    assert calls._tasks["a3"].cancelled()
    await calls.begin("b3")
    assert calls.running == ["b3"]


async def test_calls_without_a_tenant_do_not_wait_but_take_places() -> None:
    calls = Calls(1)
    await calls.begin("-1", "-2", "a1")
    assert (calls.running, calls.turns.waiting) == (["-1", "-2"], 1)
    await calls.end("-1")
    assert calls.turns.waiting == 1
    await calls.end("-2")
    assert calls.running == ["a1"]
