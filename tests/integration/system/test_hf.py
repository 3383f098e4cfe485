"""Moves from the embedded model, through client, router and hf service."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from arena_llm import AsyncClient, Client, Message
from arena_llm.errors import ArenaError
from arena_llm.types import EngineLoad, FinishReason, ModelState
from tests.support.bad_input import (
    check_refused,
)
from tests.support.system import System
from tests.support.waiting import eventually, wait_until

MODEL = "hf_smollm2-135m-instruct"
PROMPT = "Tic-tac-toe. The board is empty. You are X. Answer with the number of a cell."
#: Options of a call that generates until it is stopped.
ENDLESS: dict[str, Any] = {"regex": "([78] ){4000}", "max_tokens": 4000}


@pytest.fixture(scope="module")
def llm(system: System) -> Iterator[Client]:
    with Client(system.target) as client:
        yield client


def load(llm: Client) -> EngineLoad:
    now = llm.is_available(MODEL).load
    assert now is not None
    return now


@contextmanager
def stopped_work(llm: Client) -> Iterator[None]:
    """Check that the block's work has stopped: all later tokens belong to another call."""
    wait_until(lambda: not load(llm).running)
    yield
    wait_until(lambda: not load(llm).running)
    before = load(llm).generated_tokens
    other = llm.generate(MODEL, PROMPT, max_tokens=8)
    assert load(llm).generated_tokens == before + other.usage.completion_tokens


def test_a_move(llm: Client) -> None:
    cells = [str(cell) for cell in range(9)]
    reply = llm.generate(MODEL, PROMPT, choices=cells, session="game-1", labels={"player": "x"})
    assert reply.text in cells
    assert (reply.model, reply.backend) == (MODEL, "hf")
    assert reply.finish_reason == FinishReason.STOP
    assert reply.usage.prompt_tokens > 20
    assert reply.usage.completion_tokens >= 1
    assert reply.timings.total_seconds >= reply.timings.first_token_seconds > 0


def test_it_knows_something(llm: Client) -> None:
    reply = llm.generate(MODEL, "What is the capital of France?", max_tokens=32, temperature=0)
    assert "Paris" in reply.text


def test_a_conversation(llm: Client) -> None:
    talk = [Message("system", "You answer with one word."), Message("user", "Capital of France?")]
    assert llm.generate(MODEL, messages=talk, max_tokens=32, temperature=0).text


@pytest.mark.parametrize("action", ["k1", "k10", "k11"])
def test_quotes_make_scores_of_actions_with_common_prefixes_comparable(
    llm: Client, action: str
) -> None:
    asked = (
        'Legal actions: "k1", "k10", "k11".\nHow to reply: with one of the legal actions in its '
        f'quotes, exactly as listed, and nothing else.\nPlay "{action}".\n\nYour action:'
    )
    scores = llm.score(MODEL, asked, ['"k1"', '"k10"', '"k11"'])
    assert max(scores, key=lambda score: score.logprob).text == f'"{action}"'
    # Without quotes, an action is never less likely than one that it begins.
    bare = llm.score(MODEL, asked, ["k1", "k10", "k11"])
    assert max(bare, key=lambda score: score.logprob).text == "k1"


def test_a_program_for_the_drop_in_api(system: System) -> None:
    """It runs unchanged, with a model that needs no key."""
    program = f"""
from game_reasoning_arena.backends.llm_registry import generate_response

# Models are automatically routed to the correct backend
response = generate_response(
    model_name="{MODEL}",
    prompt="Explain the rules of tic-tac-toe",
    max_tokens=200,
    temperature=0.1
)
print(type(response).__name__, len(response) > 50)
"""
    done = system.run([sys.executable, "-c", program])
    assert (done.returncode, done.stdout) == (0, "str True\n"), done.stderr


def test_64_callers_from_8_threads(system: System) -> None:
    """Each has its own choices, so that a mixed-up reply is noticed."""

    async def eight(first: int) -> list[str]:
        async with AsyncClient(system.target) as llm:
            calls = [
                llm.generate(MODEL, f"Say {n}.", choices=[f"{n} a", f"{n} b"])
                for n in range(first, first + 8)
            ]
            return [reply.text for reply in await asyncio.gather(*calls)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda thread: asyncio.run(eight(thread * 8)), range(8)))
    numbers = [text.partition(" ")[0] for texts in answers for text in texts]
    assert numbers == [str(n) for n in range(64)]


def test_a_cancelled_call_stops_generation(llm: Client) -> None:
    with stopped_work(llm):
        stream = llm.stream(MODEL, PROMPT, **ENDLESS)
        assert next(stream)
        assert load(llm).running == 1
        stream.close()


def test_a_cancelled_call_frees_its_place_before_its_prompt_is_read(llm: Client) -> None:
    async def cancel() -> None:
        async with AsyncClient(llm.target) as other:
            call = asyncio.ensure_future(other.generate(MODEL, "7 " * 3000, max_tokens=8))
            await eventually(lambda: load(llm).running)
            call.cancel()
            await asyncio.wait([call])

    with stopped_work(llm):
        asyncio.run(cancel())


def test_a_choice_may_be_written_like_a_special_token(llm: Client) -> None:
    assert llm.generate(MODEL, PROMPT, choices=["<|im_end|>"]).text == "<|im_end|>"


def test_a_prefix_that_nobody_serves_is_refused(llm: Client) -> None:
    arguments = {"model": "nobody_x", "prompt": PROMPT}
    check_refused(llm, "generate", arguments, ("NOT_FOUND", "UNKNOWN_PREFIX"), "model")


@pytest.mark.parametrize("target", ["router", "hf"])
def test_garbage_on_the_port_and_in_a_message(system: System, llm: Client, target: str) -> None:
    address = ("127.0.0.1", system.ports[target])
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 64, b"PRI * HTTP/2.0\r\n"):
        with socket.create_connection(address) as connection:
            connection.sendall(garbage)
    with grpc.insecure_channel(f"127.0.0.1:{system.ports[target]}") as channel:
        for message in (b"\xff\xff\xff", b"\x0a\x05hf_\xff\xff\x12\x01a"):
            call = channel.unary_unary("/arena_llm.v1.LlmService/Generate")
            with pytest.raises(grpc.RpcError) as caught:
                call(message, timeout=30)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert llm.generate(MODEL, PROMPT, choices=["4"]).text == "4"


def test_the_log_has_a_line_per_call_without_the_prompt(system: System, llm: Client) -> None:
    def lines(service: str) -> list[str]:
        return [line for line in system.log(service).splitlines() if "log-test" in line]

    marked = "ZEBRA-7713"
    labels = {"experiment": "log-test"}
    llm.generate(MODEL, f"{marked} {PROMPT}", choices=["4", "5"], labels=labels)
    with pytest.raises(ArenaError):
        llm.generate(MODEL, marked, regex=f"{marked}(", labels=labels)
    for service in ("router", "hf"):
        # The line is written after the call has ended.
        wait_until(lambda service=service: len(lines(service)) == 2)
    for line, status in zip(lines("hf"), ("OK", "INVALID_ARGUMENT"), strict=True):
        assert f"status={status}" in line
        assert f"model={MODEL}" in line
        assert "label.experiment=log-test" in line
        assert "total_s=" in line
    assert re.search(r"prompt_tokens=\d+ completion_tokens=\d+", lines("hf")[0])
    assert marked not in system.log("hf") + system.log("router")


def test_the_service_still_serves(system: System, llm: Client) -> None:
    """The last test of this file: no test above has ended a process."""
    assert llm.is_available(MODEL).state == ModelState.READY
    assert "bug" not in re.findall(r"event=(\w+)", system.log("hf"))
    assert load(llm).running == 0
