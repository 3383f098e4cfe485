"""Commands of `make` with an output, folder, port or .env that cannot be used.

Each command does its work, or fails with one sentence; none shows a traceback.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.managed import ManagedService
from deploy.probe import health
from deploy.services import ROOT
from tests.support.small_deploy import small_services
from tests.support.system import SmallSystem, System

#: Shell commands that give a command an output that cannot be written.
SINKS = {
    "a reader that has gone": "{} | true; exit ${{PIPESTATUS[0]}}",
    "a full disk": "{} > /dev/full",
    "a full disk for errors too": "{} > /dev/full 2>&1",
    "closed": "{} >&-",
    "closed, all": "{} <&- >&- 2>&-",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallSystem]:
    """A small system that is up; tests leave it as it was."""
    system = SmallSystem(tmp_path_factory.mktemp("running") / "run")
    system.up()
    yield system
    system.close()


def line(system: System, *arguments: str) -> str:
    """The command line of `python -m deploy ...`, for a shell."""
    return shlex.join(system.command(*arguments))


@pytest.mark.parametrize(
    ("command", "sink"),
    [
        *(("status", sink) for sink in SINKS),
        *((command, "a full disk") for command in ("up", "target", "grpcurl", "--help")),
        ("up", "closed, all"),
    ],
)
def test_output_that_cannot_be_written_changes_nothing(
    running: SmallSystem, command: str, sink: str
) -> None:
    pids = running.pids()
    done = running.shell(SINKS[sink].format(line(running, command)))
    assert done.returncode == 0, done.stderr
    message = "the output cannot be written: No space left on device\n"
    assert done.stderr == (message if sink == "a full disk" else "")
    assert running.pids() == pids


@pytest.mark.parametrize("sink", ["{} | true", "{} | head -1"])
def test_logs_end_with_their_reader(running: SmallSystem, sink: str) -> None:
    done = running.shell(sink.format(line(running, "logs", "--lines", "100000")))
    assert done.stderr == ""


def test_errors_that_cannot_be_written_keep_their_exit_code(small: SmallSystem) -> None:
    small.env["ARENA_HF_PORT"] = "0"
    assert small.shell(line(small, "up") + " 2> /dev/full").returncode == 1
    assert small.shell(line(small, "up") + " 2>&-").returncode == 1


def test_up_and_down_work_when_their_reader_goes_away(small: SmallSystem) -> None:
    done = small.shell(f"{line(small, 'up')} | grep -q up: && exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")
    assert health(small.target) == "SERVING"
    assert small.shell(f"{line(small, 'down')} | true; exit ${{PIPESTATUS[0]}}").returncode == 0
    assert not small.supervisor.members()


def test_characters_outside_the_terminals_encoding_are_escaped(small: SmallSystem) -> None:
    small.env |= {"PYTHONIOENCODING": "ascii", "ARENA_RUN_DIR": str(small.run_dir / "für\x1b[31m")}
    done = small.deploy("logs")
    assert done.returncode == 1
    assert r"f\xfcr\u001b[31m" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("service", small_services(), ids=lambda service: service.name)
def test_port_0_is_refused_immediately(small: SmallSystem, service: ManagedService) -> None:
    """The other services would not know the port that the system chooses."""
    small.env[service.variable] = "0"
    up = small.deploy("up")
    assert (up.returncode, up.stdout) == (1, "")
    assert up.stderr == (
        f"up: {service.name} cannot listen on 127.0.0.1:0: the other services must know its port, "
        "so choose one from 1 to 65535\n"
        f"stop what holds a port, or choose others:\n  make up {service.variable}=PORT\n"
    )


@pytest.mark.parametrize("port", ["70000", "٣"])
def test_an_invalid_port_is_reported_with_its_variable(small: SmallSystem, port: str) -> None:
    small.env["ARENA_HF_PORT"] = port
    up = small.deploy("up")
    assert (up.returncode, up.stdout) == (1, "")
    assert up.stderr.startswith("up: configs/hf_models.yaml: listen: ")
    assert f"; ARENA_HF_PORT is {port!r}" in up.stderr


@pytest.mark.parametrize(
    ("command", "run_dir", "reason"),
    [
        ("up", "file", "file: is not a folder"),
        ("up", "file/below", "file/below: cannot be made: Not a directory"),
        ("down", "x" * 300, "File name too long"),
        ("down", "file", "file: is not a folder"),
        ("status", "file", "file/addresses.json: Not a directory"),
        ("logs", "file", "file/logs: make up writes them"),
    ],
)
def test_an_unusable_run_folder_is_reported_in_one_sentence(
    tmp_path: Path, command: str, run_dir: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    done = SmallSystem(tmp_path / run_dir).deploy(command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{command}: ")
    assert done.stderr.endswith(f"{reason}\n")
    assert len(done.stderr.splitlines()) == 1


def test_on_a_full_disk_up_fails_with_one_sentence_and_starts_nothing(small: SmallSystem) -> None:
    done = small.shell(f"ulimit -f 0; {line(small, 'up')}")
    assert done.returncode == 1
    assert "supervisord.conf: cannot be written: File too large" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not small.supervisor.members()


def test_on_a_full_disk_status_and_down_work(small: SmallSystem) -> None:
    small.up()
    done = small.shell(f"ulimit -f 0; {line(small, 'status')}; {line(small, 'down')}")
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "down", "")
    assert not small.supervisor.members()


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[SmallSystem]:
    """A small system in a copy of this repository, which can have its own .env file."""
    copy = tmp_path / "copy"
    for folder in ("deploy", "services", "router", "configs", "tests/support"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    system = SmallSystem(tmp_path / "run", root=copy)
    system.env["ARENA_CACHE_DIR"] = os.environ.get("ARENA_CACHE_DIR") or str(ROOT / ".cache")
    yield system
    system.close()


def test_a_broken_env_file_is_reported_and_does_not_block_down(copied: SmallSystem) -> None:
    (copied.root / ".env").write_bytes("A=1\nA_KEY=münz\n".encode("latin-1"))
    problem = ".env: line 2: is not UTF-8 text: save the file as UTF-8\n"
    up = copied.deploy("up")
    assert (up.returncode, up.stdout, up.stderr) == (1, "", f"up: {problem}")
    for command, status in {"down": 0, "status": 1, "target": 0}.items():
        done = copied.deploy(command)
        assert (done.returncode, done.stderr) == (status, problem)


def test_down_stops_a_system_whose_env_file_was_broken_later(copied: SmallSystem) -> None:
    file = copied.root / ".env"
    run_dir = copied.env.pop("ARENA_RUN_DIR")
    file.write_text(f"\ufeffARENA_RUN_DIR={run_dir}\n", "utf-8")  # with a byte order mark
    copied.up()
    file.write_bytes(f"ARENA_RUN_DIR={run_dir}\n# für alle\n".encode("latin-1"))
    status = copied.deploy("status")
    assert status.returncode == 0
    assert status.stdout.count(" SERVING ") == len(copied.ports)
    assert copied.deploy("logs").stdout
    # The line with ARENA_RUN_DIR cannot be read, so `down` must not report that nothing was up.
    file.write_bytes(f"ARENA_RUN_DIR={run_dir}-für\n".encode("latin-1"))
    down = copied.deploy("down")
    assert down.returncode == 1
    assert "line 1: is not UTF-8 text" in down.stderr
    assert "ARENA_RUN_DIR is needed" in down.stderr
    file.write_bytes(f"ARENA_RUN_DIR={run_dir}\n".encode("utf-16"))
    assert copied.deploy("down").stdout == "down\n"
    assert not copied.supervisor.members()
