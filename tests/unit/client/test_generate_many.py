"""generate_many: outcomes as the calls end, concurrency, and errors in place of completions."""

from __future__ import annotations

import asyncio
import threading

import pytest

import arena_llm
from arena_llm import Message
from arena_llm.errors import ArenaError, InvalidArgumentError, UnavailableError
from tests.unit.client.scripted import (
    HOLD,
    MODEL,
    Fail,
    Script,
    collect,
    grpc,
    settle,
    text_reply,
)


async def gather(many) -> list:
    """Return all outcomes in the order of the prompts."""
    outcomes = dict(await collect(many))
    assert sorted(outcomes) == list(range(len(outcomes)))
    return [outcomes[index] for index in range(len(outcomes))]


async def take(many, count: int) -> list:
    """Return the first outcomes."""
    if hasattr(many, "__anext__"):
        return [await anext(many) for _ in range(count)]
    return [next(many) for _ in range(count)]


async def leave(many) -> None:
    """End the iterator, as leaving its loop does."""
    await settle(many.aclose() if hasattr(many, "aclose") else many.close())


async def test_outcomes_have_the_position_of_their_prompt(either, script: Script) -> None:
    last_arrived = threading.Event()

    def respond(request):
        # The first call ends last.
        if request.prompt == "0":
            assert last_arrived.wait(20)
        if request.prompt == "99":
            last_arrived.set()
        return text_reply(f"re {request.prompt}")

    script.respond = respond
    outcomes = await collect(either.generate_many(MODEL, [str(i) for i in range(100)], seed=3))
    assert outcomes[0][0] != 0  # as the calls end
    assert {index: reply.text for index, reply in outcomes} == {i: f"re {i}" for i in range(100)}
    assert all(seen.request.config.seed == 3 for seen in script.history)


async def test_an_error_replaces_its_completion(either, script: Script) -> None:
    def respond(request):
        if request.prompt == "bad":
            return Fail(grpc.StatusCode.UNAVAILABLE, "down", "UPSTREAM_UNAVAILABLE")
        return text_reply(request.prompt)

    script.respond = respond
    many = either.generate_many(MODEL, ["a", "bad", "\ud800", "b"])
    a, bad, unfit, b = await gather(many)
    assert (a.text, b.text) == ("a", "b")
    assert isinstance(bad, UnavailableError)
    assert bad.reason == "UPSTREAM_UNAVAILABLE"
    assert isinstance(unfit, InvalidArgumentError)
    assert unfit.field == "prompt"


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_the_number_of_concurrent_calls(either, script: Script, concurrency) -> None:
    # A call is answered when as many calls run as are allowed, and after a moment in
    # which one more could have arrived.
    together, too_many = threading.Barrier(concurrency), threading.Event()
    running, most, lock = 0, 0, threading.Lock()

    def respond(request):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running > concurrency:
                too_many.set()
        together.wait(20)
        too_many.wait(0.05)
        with lock:
            running -= 1
        return text_reply(request.prompt)

    script.respond = respond
    prompts = [str(i) for i in range(concurrency * 5)]
    replies = await gather(either.generate_many(MODEL, prompts, concurrency=concurrency))
    assert [reply.text for reply in replies] == prompts
    assert most == concurrency


async def test_conversations_and_an_empty_list(either, script: Script) -> None:
    script.respond = lambda request: text_reply(request.conversation.messages[0].parts[0].text)
    (reply,) = await gather(either.generate_many(MODEL, [[Message("user", "u")]]))
    assert reply.text == "u"
    assert await gather(either.generate_many(MODEL, iter(()))) == []


async def test_an_endless_generator_is_read_as_places_become_free(either, script: Script) -> None:
    read = 0

    def prompts():
        nonlocal read
        while True:
            read += 1
            yield str(read)

    many = either.generate_many(MODEL, prompts(), concurrency=3)
    first = await take(many, 10)
    assert [index for index, _ in sorted(first)] == sorted({index for index, _ in first})
    assert all(reply.text == str(index + 1) for index, reply in first)
    assert read <= 10 + 2 * 3
    await leave(many)
    assert len(script.history) <= read


async def test_an_interrupted_run_keeps_what_it_has(either, script: Script) -> None:
    """Calls that have ended are yielded before the ones that still run."""
    script.respond = lambda request: HOLD if request.prompt == "slow" else text_reply("ok")
    many = either.generate_many(MODEL, ["slow", *"abcdefgh"], concurrency=2)
    kept = dict(await take(many, 8))
    await leave(many)
    assert sorted(kept) == list(range(1, 9))
    for call in script.history:
        assert await asyncio.to_thread(call.ended.wait, 20)


async def test_nothing_is_called_before_the_first_read(either, script: Script) -> None:
    many = either.generate_many(MODEL, ["a"])
    await leave(many)
    assert script.history == []


async def test_the_timeout_applies_to_each_call(either, script: Script) -> None:
    await gather(either.generate_many(MODEL, ["a", "b", "c"], concurrency=1, timeout=50))
    assert all(40 < seen.time_remaining < 52 for seen in script.history)


async def test_cancelling_ends_every_call(target: str, script: Script) -> None:
    script.enqueue(*[HOLD] * 3)
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_arrival() -> None:
        if len(script.history) == 3:
            loop.call_soon_threadsafe(arrived.set)

    script.on_arrival = on_arrival
    async with arena_llm.AsyncClient(target) as llm:
        task = asyncio.create_task(
            gather(llm.generate_many(MODEL, ["a", "b", "c", "d"], concurrency=3))
        )
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for call in script.history:
            assert await asyncio.to_thread(call.ended.wait, 20)
    assert len(script.history) == 3


async def test_no_server(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arena_llm._transport.CONNECT_SECONDS", 0.2)
    target = f"unix:{tmp_path}/nobody"
    with arena_llm.Client(target) as llm:
        replies = await gather(llm.generate_many(MODEL, ["a"] * 20, concurrency=2))
    assert [type(reply) for reply in replies] == [UnavailableError] * 20
    async with arena_llm.AsyncClient(target) as llm:
        replies = await gather(llm.generate_many(MODEL, ["a"] * 20, concurrency=2))
    assert all(isinstance(reply, ArenaError) for reply in replies)
