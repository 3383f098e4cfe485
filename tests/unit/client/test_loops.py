"""One client in the event loops of several threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.ports import free_ports
from tests.support.processes import scripted_process

CALLS = """
import asyncio, sys, threading
from arena_llm import AsyncClient

async def work():
    async with AsyncClient(sys.argv[1]) as llm:
        for _ in range(20):
            await asyncio.gather(*(llm.generate("hf_model", "x") for _ in range(4)))

threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()

async def fail():
    def handle(loop, context): print("handled", context["message"])
    asyncio.get_running_loop().set_exception_handler(handle)
    async with AsyncClient(sys.argv[1]) as llm:
        await llm.generate("hf_model", "x")
        asyncio.get_running_loop().call_exception_handler({"message": "mine"})

asyncio.run(fail())
"""


def test_loops_in_threads_print_nothing(tmp_path: Path) -> None:
    """grpc.aio prints a BlockingIOError for many a call; errors of others are still shown."""
    with scripted_process(f"127.0.0.1:{free_ports(1)[0]}", "hf") as service:
        done = subprocess.run(
            [sys.executable, "-c", CALLS, service.address], capture_output=True, text=True
        )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "handled mine\n")
