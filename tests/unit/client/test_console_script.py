"""The installed command, as a shell starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
import threading
from pathlib import Path

import pytest

from tests.unit.client.scripted import HOLD, MODEL, Script, models

pytestmark = pytest.mark.integration  # starts processes

CONSOLE_SCRIPT = str(Path(sysconfig.get_path("scripts")) / "arena-llm")


def console(*arguments: str) -> subprocess.Popen[str]:
    """Start the installed command."""
    return subprocess.Popen(
        [CONSOLE_SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        # With buffers, also if this test run has none.
        env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
    )


def test_the_console_script(target: str, script: Script) -> None:
    process = console("--target", target, "generate", MODEL, "schön")
    assert process.communicate(timeout=30) == ("schön\n", "")
    assert process.returncode == 0


def test_ctrl_c_ends_the_call(target: str, script: Script) -> None:
    script.enqueue(HOLD)
    arrived = threading.Event()
    script.on_arrival = arrived.set
    process = console("--target", target, "generate", MODEL, "p")
    assert arrived.wait(30)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "arena-llm: interrupted\n")
    assert process.returncode == 130
    assert script.history[0].ended.wait(20)


@pytest.mark.parametrize("lines", [5, 5000], ids=["in one buffer", "in many"])
def test_a_reader_that_has_left(target: str, script: Script, lines: int) -> None:
    left = threading.Event()

    def respond(request):
        assert left.wait(30)
        return models(*(f"hf_{i:04}" for i in range(lines)))

    script.respond = respond
    process = console("--target", target, "models")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    left.set()
    assert process.stderr.read() == ""
    assert process.wait(30) == 1
    process.stderr.close()
