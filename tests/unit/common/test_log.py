"""Lines of the log come in bursts; none is lost, and warnings do not wait."""

from __future__ import annotations

import subprocess
import sys

_START = """
import asyncio, os, sys
import structlog
from services.common.log import configure_logging

configure_logging()
log = structlog.get_logger()

async def main():
"""


def _written(body: str) -> tuple[int, list[str]]:
    """Exit status and events of a process of its own: a logger is set up once and for good."""
    code = _START + "".join(f"    {line}\n" for line in body.splitlines()) + "asyncio.run(main())\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.returncode, [line.split("event=")[1] for line in done.stderr.splitlines()]


def test_lines_come_in_order_and_a_warning_brings_those_before_it() -> None:
    body = 'log.info("a")\nlog.info("b", n=1)\nlog.warning("c")\nlog.info("d")\nos._exit(0)'
    assert _written(body) == (0, ["a", "b n=1", "c"])


def test_the_first_line_does_not_wait() -> None:
    assert _written('log.info("a")\nlog.info("b")\nos._exit(0)') == (0, ["a"])


def test_a_line_that_waits_is_written_without_another_to_push_it() -> None:
    body = """read, write = os.pipe()
os.dup2(write, 2)
log.info("first")
log.info("waits")
os.read(read, 1000)
loop = asyncio.get_running_loop()
readable = asyncio.Event()
loop.add_reader(read, readable.set)
await readable.wait()
os.dup2(1, 2)
assert b"event=waits" in os.read(read, 1000)
os._exit(7)"""
    assert _written(body)[0] == 7


def test_what_waits_at_the_end_is_written() -> None:
    assert _written('log.info("last")') == (0, ["last"])


def test_before_the_loop_runs_a_line_does_not_wait() -> None:
    body = 'await asyncio.to_thread(log.info, "outside")\nos._exit(0)'
    assert _written(body) == (0, ["outside"])


def test_a_value_cannot_forge_a_field_or_a_line() -> None:
    body = r"""log.info("a b", said='c d=1 "e"\nf', path="g\\h", none="")"""
    assert _written(body) == (0, [r""""a b" said="c d=1 \"e\"\nf" path="g\\h" none="""])
