"""Lines of the log: when they are written, and that no value can forge one."""

from __future__ import annotations

import signal
import subprocess
import sys

_START = """
import asyncio, os, select, signal, sys
from services.common.log import configure_logging, log

configure_logging()

async def main():
"""


def _written(body: str) -> tuple[int, list[str]]:
    """Run the body in a separate process; return its exit status and the logged events."""
    code = _START + "".join(f"    {line}\n" for line in body.splitlines()) + "asyncio.run(main())\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.returncode, [line.split("event=")[1] for line in done.stderr.splitlines()]


def test_a_killed_process_has_written_the_lines_of_all_earlier_turns() -> None:
    body = """for number in range(3):
    log.info("a", n=number)
    log.warning("b", n=number)
    await asyncio.sleep(0)
os.kill(os.getpid(), signal.SIGKILL)"""
    lines = [f"{event} n={number}" for number in range(3) for event in "ab"]
    assert _written(body) == (-signal.SIGKILL, lines)


def test_the_lines_of_one_turn_are_written_together() -> None:
    body = """read, write = os.pipe()
os.dup2(write, 2)
log.info("first")
log.info("second")
assert not select.select([read], [], [], 0)[0]
await asyncio.sleep(0)
os.dup2(1, 2)
written = os.read(read, 1000)
assert written.count(b"\\n") == 2, written
os._exit(7)"""
    assert _written(body)[0] == 7


def test_the_last_line_is_written_at_the_end_of_the_process() -> None:
    assert _written('log.info("last")') == (0, ["last"])


def test_a_line_outside_the_loop_is_written_immediately() -> None:
    body = 'await asyncio.to_thread(log.info, "outside")\nos._exit(0)'
    assert _written(body) == (0, ["outside"])


def test_a_value_cannot_forge_a_field_or_a_line() -> None:
    body = r"""log.info("a b", said='c d=1 "e"\nf', path="g\\h", none="")"""
    assert _written(body) == (0, [r""""a b" said="c d=1 \"e\"\nf" path="g\\h" none="""])
