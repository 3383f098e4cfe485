"""If the log cannot be written, lines are lost but no call fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.common.log import LossyOutput
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess, router_process, run_to_end, scripted_process
from tests.support.wire import failure, reason, request, stub

pytestmark = pytest.mark.integration  # starts processes

#: Labels so long that the log of a few calls fills a pipe.
LABELS = {f"{number:0128}": "x" * 128 for number in range(16)}

#: The redirection of a service's output, and whether the reader of the pipe keeps it open
#: (without reading).
REDIRECTS = {
    "closed": ("2>&-", True),
    "all closed": ("<&- >&- 2>&-", True),
    "a full disk": (">/dev/full 2>&1", True),
    "a reader that is gone": (">{pipe} 2>&1", False),
    "a reader that has stopped": (">{pipe} 2>&1", True),
    "plain ASCII": ("2>/dev/null", True),
}


async def answers(service: ServiceProcess) -> None:
    """Make calls of each kind, so many that their lines fill a pipe."""
    async with stub(service.address) as llm:
        for _ in range(50):
            asked = request(prompt="é", session="é\n😀", labels=LABELS)
            assert (await llm.Generate(asked, timeout=60)).text == "é😀"
        assert reason(await failure(llm.Generate(request(prompt=""), timeout=60)))
        assert reason(await failure(llm.Generate(request(prompt="bug"), timeout=60))) == "INTERNAL"
        assert [event async for event in llm.StreamGenerate(request(), timeout=60)]


#: Each way for a service, and one for the router, whose log is the same.
WAYS = [*((output, False) for output in REDIRECTS), ("a reader that has stopped", True)]


@pytest.mark.parametrize(("output", "routed"), WAYS)
async def test_calls_are_answered_and_the_process_exits_with_0(
    output: str, routed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Opened for writing too, because opening it for reading waits for the service.
    reader = os.open(pipe, os.O_RDWR)
    redirect, reader_stays = REDIRECTS[output]
    redirect = redirect.format(pipe=pipe)
    backend, router = (f"127.0.0.1:{port}" for port in free_ports(2))
    config = tmp_path / "router.yaml"
    config.write_text(f"listen: {router}\nroutes:\n  hf_: {{targets: ['{backend}']}}\n")
    with contextlib.ExitStack() as stack:
        service = scripted_process(backend, "hf", "é😀", redirect="" if routed else redirect)
        process = stack.enter_context(service)
        if routed:
            process = stack.enter_context(router_process(router, config, redirect=redirect))
        if not reader_stays:
            os.close(reader)
        await answers(process)
        process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.process.wait, 30) == 0
    if reader_stays:
        os.close(reader)


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_print_to_a_broken_output_raises_nothing(name: str) -> None:
    code = f"""
import os, sys
from services.common.log import configure_logging
configure_logging()
descriptor = sys.{name}.fileno()
for broken in ("/dev/full", "closed"):
    if broken == "closed":
        os.close(descriptor)
    else:
        os.dup2(os.open(broken, os.O_WRONLY), descriptor)
    print("lost", file=sys.{name}, flush=True)
os._exit(7)
"""
    assert run_to_end("-c", code).returncode == 7


def test_lines_are_written_again_when_the_disk_has_space(tmp_path: Path) -> None:
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    full = os.open("/dev/full", os.O_WRONLY)
    descriptor = os.dup(full)
    output = LossyOutput(descriptor)
    output.write(b"lost\n" * 3)
    os.dup2(file, descriptor)
    output.write(b"kept\n")
    output.write(b"more\n")
    assert (tmp_path / "log").read_text().split("\n")[1:] == [
        'level=warning event="output lost" bytes=15',
        "kept",
        "more",
        "",
    ]
    for used in (file, full, descriptor):
        os.close(used)


def test_lines_are_written_again_when_the_reader_continues() -> None:
    read, write = os.pipe()
    output = LossyOutput(write)
    total = 1_000_000
    output.write(b"x" * total)
    kept = len(os.read(read, total))
    output.write(b"kept\n")
    assert os.read(read, total) == b'\nlevel=warning event="output lost" bytes=%d\nkept\n' % (
        total - kept
    )
    for used in (read, write):
        os.close(used)


def test_a_reader_that_keeps_reading_gets_everything() -> None:
    read, write = os.pipe()
    text = os.urandom(1_000_000)
    with ThreadPoolExecutor() as pool, open(read, "rb") as reader:
        copy = pool.submit(reader.read)
        LossyOutput(write).write(text)
        os.close(write)
        assert copy.result() == text
