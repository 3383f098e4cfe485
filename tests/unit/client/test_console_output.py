"""The installed command where its output cannot be written, or is shown on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from arena_llm.v1 import models_pb2
from tests.unit.client.scripted import (
    MODEL,
    Fail,
    Script,
    end_event,
    grpc,
    models,
    scores,
    text_event,
    text_reply,
)
from tests.unit.client.test_console_script import CONSOLE_SCRIPT

pytestmark = pytest.mark.integration  # starts processes

#: Clears a screen, sets a title, colours by a C1 control, and turns the writing's direction.
HOSTILE = "\x1b[2J\x1b]0;gotcha\x07\x9b31m\u202e\rend"
ACTING = "\x1b\x07\x9b\u202e"

COMMANDS = {
    "models": ["models"],
    "models as JSON": ["models", "--json"],
    "check": ["check", MODEL],
    "check as JSON": ["check", MODEL, "--json"],
    "generate": ["generate", MODEL, "p"],
    "generate as JSON": ["generate", MODEL, "p", "--json"],
    "stream": ["generate", MODEL, "p", "--stream"],
    "score": ["score", MODEL, "p", "a"],
    "score as JSON": ["score", MODEL, "p", "a", "--json"],
    "health": ["health"],
    "validate": ["validate", "--models", MODEL],
}
HELP = {"help": ["--help"], "version": ["--version"], "help of one": ["generate", "--help"]}
#: With these the command fails, and has something to say on stderr.
WRONG = {"usage": ["nonsense"], "target": ["models", "--target=localhost"]}

EACH = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture(autouse=True)
def answers(script: Script) -> None:
    """A server whose every text is hostile."""
    listed = models(MODEL, "hf_" + HOSTILE, unreachable=("vllm",))
    listed.models[0].backend = HOSTILE
    listed.unreachable[0].detail = HOSTILE
    available = models_pb2.IsAvailableResponse(
        available=True,
        state=models_pb2.MODEL_STATE_READY,
        detail=HOSTILE,
        warnings=[HOSTILE],
        unreachable=listed.unreachable,
    )
    replies = {
        "GenerateRequest": lambda: text_reply(HOSTILE),
        "ScoreRequest": lambda: scores((HOSTILE, -1)),
        "ListModelsRequest": lambda: listed,
        "IsAvailableRequest": lambda: available,
    }
    script.respond = lambda request: replies[type(request).__name__]()
    script.enqueue_stream(*map(text_event, HOSTILE), end_event(HOSTILE))


@pytest.fixture
def console(target: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command with shell redirections."""

    def run(
        *arguments: str, redirect: str = "", encoding: str = "utf-8"
    ) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        return subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" "$@" {redirect}', CONSOLE_SCRIPT, *arguments],
            env=env | {"ARENA_LLM_TARGET": target, "PYTHONIOENCODING": encoding},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding=encoding,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize("command", {**COMMANDS, **HELP})
def test_a_full_disk(command: str, console) -> None:
    done = console(*{**COMMANDS, **HELP}[command], redirect=">/dev/full")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    expected = "arena-llm: standard output cannot be written: No space left on device"
    assert lines[-1] == expected
    assert len(lines) == (2 if command == "models" else 1)  # ... and the backend not listed


@EACH
def test_a_closed_output(command: str, console, script: Script) -> None:
    done = console(*COMMANDS[command], redirect=">&-")
    assert (done.returncode, done.stderr) == (1, "arena-llm: standard output is closed\n")
    assert not script.history  # nothing is paid for that nobody sees


@EACH
def test_a_reader_that_has_left(command: str, target: str, script: Script) -> None:
    left = threading.Event()
    script.on_arrival = lambda: left.wait(30)
    process = subprocess.Popen(
        [CONSOLE_SCRIPT, *COMMANDS[command], "--target", target],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    left.set()
    said = process.stderr.read()
    assert "Traceback" not in said
    assert ("not listed" in said) == bool(said)  # by `models`, of a backend
    assert process.wait(30) == 1
    process.stderr.close()


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full", "2>&- <&-"])
@pytest.mark.parametrize("command", ["models", "generate", "stream"])
def test_lost_errors_cost_nothing(command: str, redirect: str, console) -> None:
    done = console(*COMMANDS[command], redirect=redirect)
    assert (done.returncode, done.stderr) == (0, "")
    assert HOSTILE[:8] in done.stdout


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full", ">&- 2>&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("command", WRONG)
def test_the_exit_code_remains(command: str, redirect: str, console) -> None:
    done = console(*WRONG[command], redirect=redirect)
    expected = 1 if command == "target" and ">&- 2" in redirect else 2
    assert (done.returncode, done.stdout, done.stderr) == (expected, "", "")


@pytest.mark.parametrize("redirect", ["<&-", "0>/dev/null", ">&- <&-"])
@pytest.mark.parametrize("command", ["generate", "score"])
def test_an_input_that_cannot_be_read(command: str, redirect: str, console, script: Script) -> None:
    done = console(command, MODEL, "-", *(["a"] if command == "score" else []), redirect=redirect)
    assert done.returncode == 1
    assert done.stderr.startswith("arena-llm: ")
    assert "standard " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not script.history


@EACH
def test_a_file_gets_the_exact_text(command: str, console, tmp_path: Path) -> None:
    done = console(*COMMANDS[command], redirect=f">{tmp_path}/out")
    assert done.returncode == 0
    written = (tmp_path / "out").read_bytes().decode()
    if "JSON" in command:
        assert json.loads(written)
    elif command in ("generate", "stream"):
        assert written == HOSTILE + "\n"
    elif command != "validate":
        assert "\x1b[2J" in written


@pytest.mark.parametrize("command", {**COMMANDS, "failure": ["generate", MODEL, "p"]})
def test_a_terminal_obeys_nobody(command: str, target: str, script: Script) -> None:
    if command == "failure":
        script.enqueue(Fail(grpc.StatusCode.UNAVAILABLE, HOSTILE, "UPSTREAM_UNAVAILABLE"))
    arguments = COMMANDS.get(command, COMMANDS["generate"])
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [CONSOLE_SCRIPT, *arguments, "--target", target],
        stdin=end,
        stdout=end,
        stderr=end,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )
    os.close(end)
    shown = b""
    try:
        while piece := os.read(terminal, 65536):
            shown += piece
    except OSError:  # so ends a terminal on Linux
        pass
    os.close(terminal)
    assert process.wait(30) == (1 if command == "failure" else 0)
    text = shown.decode().replace("\r\n", "\n")
    assert not set(text) & set(ACTING + "\r")
    if command != "validate":  # which shows no text of others where all is well
        assert r"\u001b[2J\u001b]0;gotcha\u0007\u009b31m\u202e" in text
    if "JSON" in command:
        assert json.loads(text)


@pytest.mark.parametrize("command", ["generate", "stream"])
def test_an_encoding_that_lacks_characters(command: str, console, script: Script) -> None:
    script.respond = lambda request: text_reply("e4 ♟ schön")
    script._streams.clear()
    script.enqueue_stream(*map(text_event, "e4 ♟ schön"), end_event("e4 ♟ schön"))
    done = console(*COMMANDS[command], encoding="ascii")
    assert (done.returncode, done.stdout) == (0, "e4 \\u265f sch\\xf6n\n")
    assert done.stderr.startswith("arena-llm: standard output is ascii: ")
    assert done.stderr.count("\n") == 1


def test_a_document_is_exact_in_every_encoding(console, script: Script) -> None:
    script.respond = lambda request: text_reply("e4 ♟ schön")
    done = console(*COMMANDS["generate as JSON"], encoding="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["text"] == "e4 ♟ schön"
