"""Groups of calls that must not run together."""

from __future__ import annotations

import asyncio

from services.vllm.gate import GroupGate


class Calls:
    """Calls through one gate, and which of them run."""

    def __init__(self) -> None:
        self._gate = GroupGate()
        self.running: list[str] = []

    def begin(self, name: str, group: str) -> tuple[asyncio.Task[None], asyncio.Event]:
        ended = asyncio.Event()

        async def call() -> None:
            async with self._gate.enter(group):
                self.running.append(name)
                try:
                    await ended.wait()
                finally:
                    self.running.remove(name)

        return asyncio.create_task(call()), ended


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_group_runs_together_and_the_next_one_after_it() -> None:
    calls = Calls()
    begun = [calls.begin(name, group) for name, group in zip("abcd", "xxyx", strict=True)]
    other, other_ends = calls.begin("e", "")
    await settle()
    assert calls.running == ["a", "b", "e"], "d must not go before c, which waits"
    for _, ended in begun[:2]:
        ended.set()
    await settle()
    assert calls.running == ["e", "c"]
    begun[2][1].set()
    await settle()
    assert calls.running == ["e", "d"]
    begun[3][1].set()
    other_ends.set()
    await asyncio.gather(other, *(task for task, _ in begun))


async def test_a_cancelled_call_holds_nobody_up() -> None:
    calls = Calls()
    (first, first_ends), (second, _) = calls.begin("a", "x"), calls.begin("b", "y")
    third, third_ends = calls.begin("c", "x")
    await settle()
    second.cancel()
    await settle()
    first_ends.set()
    await settle()
    assert calls.running == ["c"]
    fourth, fourth_ends = calls.begin("d", "y")
    await settle()
    third.cancel()  # while it runs
    await settle()
    assert calls.running == ["d"]
    fourth_ends.set()
    await asyncio.gather(first, second, third, fourth, return_exceptions=True)
    assert third_ends.is_set() is False
