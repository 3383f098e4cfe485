"""What the command writes to files, pipes, terminals and full disks.

Most tests call `main` with another sys.stdout. A few start the installed command, because
only a new process can begin with closed streams.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from arena_llm.cli import main
from arena_llm.cli.output import Output
from arena_llm.v1 import models_pb2, service_info_pb2
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

#: Clears the screen, sets a title, sets a colour by a C1 control, and changes the direction.
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
    "score": ["score", MODEL, "p", HOSTILE],
    "score as JSON": ["score", MODEL, "p", HOSTILE, "--json"],
    "health": ["health"],
}
HELP = {"help": ["--help"], "version": ["--version"]}
#: These fail and write to stderr.
WRONG = {"usage": ["nonsense"], "moved": ["validate"], "target": ["models", "--target=localhost"]}

EACH = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture(autouse=True)
def answers(script: Script) -> None:
    """Answer every call with hostile texts."""
    listed = models(MODEL, "hf_" + HOSTILE, unreachable=("vllm",))
    listed.models[0].backend = HOSTILE
    listed.unreachable[0].detail = HOSTILE
    available = models_pb2.IsAvailableResponse(
        available=True,
        state=models_pb2.MODEL_STATE_READY,
        detail=HOSTILE,
        warnings=[HOSTILE],
    )
    info = service_info_pb2.GetServiceInfoResponse(
        service="router",
        backends=[
            service_info_pb2.BackendInfo(
                backend="hf",
                replicas=[
                    service_info_pb2.ReplicaInfo(
                        state=service_info_pb2.REPLICA_STATE_UNREACHABLE, detail=HOSTILE
                    )
                ],
            )
        ],
    )
    replies = {
        "GenerateRequest": lambda: text_reply(HOSTILE),
        "ScoreRequest": lambda: scores(-1),
        "ListModelsRequest": lambda: listed,
        "IsAvailableRequest": lambda: available,
        "GetServiceInfoRequest": lambda: info,
    }
    script.respond = lambda request: replies[type(request).__name__]()
    script.enqueue_stream(*map(text_event, HOSTILE), end_event(HOSTILE))


@pytest.fixture
def command(target: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command in this process and returns its exit code."""
    monkeypatch.setenv("ARENA_LLM_TARGET", target)

    def run(arguments: list[str], stdout: TextIO | None) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stdout)
            code = main(arguments)
        if stdout is not None:
            stdout.close()
        return code

    return run


@pytest.fixture
def terminal() -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A terminal to write to, and a function that returns what it was sent."""
    master, slave = pty.openpty()

    def shown() -> str:
        pieces = []
        try:
            while piece := os.read(master, 65536):
                pieces.append(piece)
        except OSError:  # Linux reports the end of a terminal as an error.
            pass
        return b"".join(pieces).decode().replace("\r\n", "\n")

    yield open(slave, "w", encoding="utf-8"), shown  # noqa: SIM115 - the test closes it
    os.close(master)


@pytest.mark.parametrize("name", {**COMMANDS, **HELP})
def test_a_full_disk(name: str, command, capsys: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w") as full:
        assert command({**COMMANDS, **HELP}[name], full) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "arena-llm: standard output cannot be written: No space left on device"
    assert len(lines) == (2 if name == "models" else 1)  # `models` names a missing backend first


@EACH
def test_a_closed_output(
    name: str, command, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(COMMANDS[name], None) == 1
    assert capsys.readouterr().err == "arena-llm: standard output is closed\n"
    assert not script.history  # no call is paid for that nobody can read


@EACH
def test_a_reader_that_has_left(name: str, command, capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert command(COMMANDS[name], open(writer, "w", encoding="utf-8")) == 1  # noqa: SIM115
    err = capsys.readouterr().err
    assert ("not listed" in err) == bool(err)  # of `models`, about a missing backend


@EACH
def test_a_file_gets_the_exact_text(name: str, command, tmp_path: Path) -> None:
    file = tmp_path / "out"
    assert command(COMMANDS[name], file.open("w", encoding="utf-8")) == 0
    text = file.read_bytes().decode()
    if "JSON" in name:
        assert json.loads(text)
    elif name in ("generate", "stream"):
        assert text == HOSTILE + "\n"
    else:
        assert "\x1b[2J" in text


@EACH
def test_a_terminal_gets_escapes(name: str, command, terminal) -> None:
    stdout, shown = terminal
    assert command(COMMANDS[name], stdout) == 0
    text = shown()
    assert not set(text) & set(ACTING + "\r")
    assert r"\u001b[2J\u001b]0;gotcha\u0007\u009b31m\u202e" in text
    if "JSON" in name:
        assert json.loads(text)


def test_a_terminal_gets_errors_with_escapes(
    terminal, target: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.enqueue(Fail(grpc.StatusCode.UNAVAILABLE, HOSTILE, "UPSTREAM_UNAVAILABLE"))
    stderr, shown = terminal
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        assert main(["generate", MODEL, "p", "--target", target]) == 1
    stderr.close()
    text = shown()
    assert r"\u001b[2J" in text
    assert not set(text) & set(ACTING + "\r")


@pytest.mark.parametrize("name", ["generate", "stream"])
def test_an_encoding_that_lacks_characters(
    name: str, command, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.respond = lambda request: text_reply("e4 ♟ schön")
    script._streams.clear()
    script.enqueue_stream(*map(text_event, "e4 ♟ schön"), end_event("e4 ♟ schön"))
    file = tmp_path / "out"
    assert command(COMMANDS[name], file.open("w", encoding="ascii")) == 0
    assert file.read_text() == "e4 \\u265f sch\\xf6n\n"
    err = capsys.readouterr().err
    assert err.startswith("arena-llm: standard output is ascii: ")
    assert err.count("\n") == 1


def test_a_document_is_exact_in_every_encoding(
    command, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.respond = lambda request: text_reply("e4 ♟ schön")
    file = tmp_path / "out"
    assert command(COMMANDS["generate as JSON"], file.open("w", encoding="ascii")) == 0
    assert json.loads(file.read_text())["text"] == "e4 ♟ schön"
    assert capsys.readouterr().err == ""


@pytest.fixture
def shell(target: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the installed command with redirections of the shell."""

    def run(redirect: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        return subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" "$@" {redirect}', CONSOLE_SCRIPT, *arguments],
            env=env | {"ARENA_LLM_TARGET": target, "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.integration  # starts processes
class TestShell:
    def test_a_full_disk(self, shell) -> None:
        done = shell(">/dev/full", *COMMANDS["generate"])
        assert done.returncode == 1
        assert done.stderr.endswith("cannot be written: No space left on device\n")
        assert done.stderr.count("\n") == 1

    def test_a_closed_output(self, shell, script: Script) -> None:
        done = shell(">&-", *COMMANDS["stream"])
        assert (done.returncode, done.stderr) == (1, "arena-llm: standard output is closed\n")
        assert not script.history

    @pytest.mark.parametrize("redirect", ["2>/dev/full", "2>&- <&-"])
    def test_a_lost_warning_costs_nothing(self, redirect: str, shell) -> None:
        done = shell(redirect, *COMMANDS["models"])
        assert (done.returncode, done.stderr) == (0, "")
        assert HOSTILE[:8] in done.stdout

    @pytest.mark.parametrize(
        ("name", "redirect", "code"),
        [("usage", "2>/dev/full", 2), ("usage", ">&- 2>&- <&-", 2), ("target", ">&- 2>&-", 1)],
    )
    def test_without_stderr_the_exit_code_remains(
        self, name: str, redirect: str, code: int, shell
    ) -> None:
        done = shell(redirect, *WRONG[name])
        assert (done.returncode, done.stdout, done.stderr) == (code, "", "")

    @pytest.mark.parametrize("redirect", ["<&-", "0>/dev/null"])
    def test_an_input_that_cannot_be_read(self, redirect: str, shell, script: Script) -> None:
        done = shell(redirect, "generate", MODEL, "-")
        assert done.returncode == 1
        assert done.stderr.startswith("arena-llm: INVALID_REQUEST: standard input cannot be read")
        assert done.stderr.count("\n") == 1
        assert not script.history


def test_a_row_whose_columns_do_not_fit_a_terminal_has_two_lines(
    terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stdout, shown = terminal
    output = Output()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        output.table(
            ("MODEL", "CONTEXT", "CAN"), [("m" * 36, "8192", "chat " * 8), ("n", "-", "-")]
        )
    stdout.close()
    assert shown().splitlines() == [
        "MODEL",
        "    CONTEXT  CAN",
        "m" * 36,
        "    8192     chat chat chat chat chat",
        "             chat chat chat",
        "n",
        "    -        -",
    ]
