"""A fork does not affect the parent, and calls in the child are refused immediately."""

from __future__ import annotations

import os
import signal
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.client.interpreter import FORK_SWITCH, run_python
from tests.unit.client.scripted import Script, end_event, text_event, text_reply

pytestmark = pytest.mark.integration  # starts processes

HEAD = """
import asyncio, gc, multiprocessing, os, sys, threading
from arena_llm import ArenaError, AsyncClient, Client

target = sys.argv[1]

def read_text(call):
    try:
        return call().text
    except ArenaError as error:
        return error.reason

def call_in_child(number=0):
    return read_text(lambda: Client(target).generate("hf_x", "child", timeout=20))

def call_in_loop_of_child():
    return read_text(lambda: asyncio.run(AsyncClient(target).generate("hf_x", "child", timeout=20)))

def run_thread():
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join()
    return "ended"

def fork(child):
    sys.stdout.flush()
    if (pid := os.fork()) == 0:
        print(child())
        gc.collect()
        sys.exit(0)  # with the interpreter's end, not os._exit
    return os.waitpid(pid, 0)[1]
"""

#: Programs with a running call in another thread. The test answers it after "forked".
HELD = {
    "sync": """
        llm = Client(target)

        def held_call():
            return llm.generate("hf_x", "held", timeout=50)

        def close():
            llm.close()
    """,
    "async": """
        llm = AsyncClient(target)

        def held_call():
            return asyncio.run(llm.generate("hf_x", "held", timeout=50))

        def close():
            asyncio.run(llm.close())
    """,
}
BEFORE = """
replies = []
thread = threading.Thread(target=lambda: replies.append(read_text(held_call)))
thread.start()
input()  # the call has arrived
"""
AFTER = """
print("forked", flush=True)
thread.join()
print(*replies)
print(Client(target).generate("hf_x", "again", timeout=50).text)
"""

#: Uses of a fork during the call, and what the program prints.
FORKS = {
    "the child ends": ("print(fork(lambda: 'child'))", ["child", "0"]),
    "the child closes": ("print(fork(close))", ["None", "0"]),
    "the child calls": ("print(fork(call_in_child))", ["FORK_UNSUPPORTED", "0"]),
    "its loop calls": ("print(fork(call_in_loop_of_child))", ["FORK_UNSUPPORTED", "0"]),
    "it uses the parent's": (
        "print(fork(lambda: read_text(held_call)))",
        ["FORK_UNSUPPORTED", "0"],
    ),
    "a pool": (
        """
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(abs, [-1, -2]))
        """,
        ["[1, 2]"],
    ),
    "a pool that calls": (
        """
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(call_in_child, [1, 2]))
        """,
        ["['FORK_UNSUPPORTED', 'FORK_UNSUPPORTED']"],
    ),
}


def run_forking(
    script: Script, target: str, *parts: str, fork_switch: str = ""
) -> tuple[list[str], str]:
    """Run a program and return its stdout and stderr.

    Its call with the prompt "held" is answered when it prints "forked".
    """
    forked = threading.Event()

    def respond(request):
        if request.prompt == "held":
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
            assert forked.wait(50)
        return text_reply(request.prompt)

    script.respond = respond
    source = "".join(textwrap.dedent(part) for part in parts)
    with (
        run_python(source, target, fork_switch=fork_switch) as process,
        ThreadPoolExecutor() as pool,
    ):
        assert process.stdout
        assert process.stderr
        problems = pool.submit(process.stderr.read)
        # Kills its children too, because they hold the same pipes.
        timer = threading.Timer(30, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if lines[-1] == "forked":
                forked.set()
        forked.set()
        timer.cancel()
        return lines, problems.result()


@pytest.mark.parametrize("held", HELD)
def test_forks_during_a_call(held: str, target: str, script: Script) -> None:
    sources = [f"\nprint({name!r})\n{textwrap.dedent(do)}" for name, (do, _) in FORKS.items()]
    lines, problems = run_forking(script, target, HEAD, HELD[held], BEFORE, *sources, AFTER)
    expected = [line for name, (_, seen) in FORKS.items() for line in (name, *seen)]
    assert lines == [*expected, "forked", "held", "again"], problems
    assert problems == ""


@pytest.mark.parametrize("held", HELD)
def test_the_switch_of_the_user_ends_no_call(held: str, target: str, script: Script) -> None:
    """With the switch on, grpc would end the call: the client switches it off and warns."""
    source, seen = FORKS["the child ends"]
    parts = [HEAD, HELD[held], BEFORE, source, AFTER]
    lines, problems = run_forking(script, target, *parts, fork_switch="1")
    assert lines == [*seen, "forked", "held", "again"], problems
    assert f"RuntimeWarning: {FORK_SWITCH} is on" in problems


@pytest.mark.parametrize("fork_switch", ["", "1"])
def test_grpc_imported_before_the_client(fork_switch: str, target: str, script: Script) -> None:
    """Its setting stays, with a warning if it is dangerous, and a child cannot call."""
    source, seen = FORKS["the child calls"]
    lines, problems = run_forking(
        script,
        target,
        "import grpc",
        HEAD,
        "print(call_in_child())\n",
        source,
        "\nprint(call_in_child())",
        fork_switch=fork_switch,
    )
    assert lines == ["child", *seen, "child"], problems
    assert ("keeps it on" in problems) == bool(fork_switch)


def test_children_of_a_parent_that_has_not_called(target: str, script: Script) -> None:
    lines, problems = run_forking(
        script,
        target,
        HEAD,
        """
        llm = Client(target)
        shared = AsyncClient(target)
        print(fork(call_in_child))
        print(fork(call_in_loop_of_child))
        print(fork(lambda: read_text(lambda: llm.generate("hf_x", "inherited"))))
        print(fork(lambda: read_text(lambda: asyncio.run(shared.generate("hf_x", "inherited")))))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(call_in_child, [1, 2]))
        # A child that has made calls is a parent like any other.
        print(fork(lambda: (call_in_child(), fork(call_in_child))))
        print(call_in_child())
        """,
    )
    assert lines == [
        *("child", "0", "child", "0", "inherited", "0", "inherited", "0"),
        "['child', 'child']",
        *("FORK_UNSUPPORTED", "('child', 0)", "0"),
        "child",
    ], problems


def test_children_that_start_threads(target: str, script: Script) -> None:
    """They drop the parent's clients and end without a crash."""
    lines, problems = run_forking(
        script,
        target,
        HEAD,
        """
        llm = Client(target)
        print(read_text(lambda: llm.generate("hf_x", "sync")))
        for _ in range(4):  # only some of them crashed
            print(fork(run_thread))
        shared = AsyncClient(target)
        print(read_text(lambda: asyncio.run(shared.generate("hf_x", "async"))))
        for _ in range(4):
            print(fork(run_thread))
        """,
    )
    assert lines == ["sync", *["ended", "0"] * 4, "async", *["ended", "0"] * 4], problems


def test_a_stream_belongs_to_the_parent(target: str, script: Script) -> None:
    for _ in range(2):
        script.enqueue_stream(text_event("one"), text_event("two"), end_event("both"))
    lines, problems = run_forking(
        script,
        target,
        HEAD,
        """
        def reason(read):
            try:
                return read()
            except ArenaError as error:
                return error.reason

        stream = Client(target).stream("hf_x", "s")
        print(next(stream))
        for _ in range(4):
            print(fork(run_thread))
        print(fork(lambda: reason(lambda: next(stream))))
        print(fork(stream.close))
        print(*stream, stream.completion.text)

        async def main():
            stream = AsyncClient(target).stream("hf_x", "s")
            print(await anext(stream), flush=True)
            if (pid := os.fork()) == 0:
                # In another loop, because parent and child share the selector of this one.
                thread = threading.Thread(
                    target=lambda: print(reason(lambda: asyncio.run(anext(stream))), flush=True)
                )
                thread.start()
                thread.join()
                os._exit(0)
            print(await asyncio.to_thread(os.waitpid, pid, 0) == (pid, 0))
            print(*[delta async for delta in stream], stream.completion.text)

        asyncio.run(main())
        """,
    )
    assert lines == [
        *("one", *["ended", "0"] * 4, "FORK_UNSUPPORTED", "0", "None", "0", "two both"),
        *("one", "FORK_UNSUPPORTED", "True", "two both"),
    ], problems


def test_a_loop_that_hands_work_to_forked_processes(target: str, script: Script) -> None:
    lines, problems = run_forking(
        script,
        target,
        HEAD,
        """
        from concurrent.futures import ProcessPoolExecutor

        async def main():
            async with AsyncClient(target) as llm:
                running = asyncio.create_task(llm.generate("hf_x", "held", timeout=50))
                await asyncio.to_thread(input)
                loop = asyncio.get_running_loop()
                with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
                    print(await loop.run_in_executor(pool, call_in_child))
                print("forked", flush=True)
                print((await running).text, (await llm.generate("hf_x", "again")).text)

        asyncio.run(main())
        """,
    )
    assert lines == ["FORK_UNSUPPORTED", "forked", "held again"], problems
