"""Output that cannot be written, and what else a command meets: no failure, no traceback."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from deploy.probe import health
from deploy.services import ROOT, SERVICES, Service
from tests.support.system import System

#: How a shell gives a command an output that cannot be written.
SINKS = {
    "a reader that has gone": "{} | true; exit ${{PIPESTATUS[0]}}",
    "a full disk": "{} > /dev/full",
    "a full disk for errors too": "{} > /dev/full 2>&1",
    "closed": "{} >&-",
    "closed, all": "{} <&- >&- 2>&-",
}


def shell(system: System, command: str) -> CompletedProcess[str]:
    return system.run(["bash", "-c", command])


def deploy(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "deploy", *arguments])


@pytest.fixture
def other(tmp_path: Path) -> Iterator[System]:
    other = System(tmp_path / "run")
    yield other
    other.down()


@pytest.mark.parametrize(
    ("command", "sink"),
    [
        *(("status", sink) for sink in SINKS),
        *((command, "a full disk") for command in ("up", "target", "grpcurl", "--help")),
        ("up", "closed, all"),
    ],
)
def test_output_that_cannot_be_written_changes_nothing(
    system: System, command: str, sink: str
) -> None:
    pids = system.pids()
    done = shell(system, SINKS[sink].format(deploy(command)))
    assert done.returncode == 0, done.stderr
    full = sink == "a full disk"
    said = "the output cannot be written: No space left on device\n"
    assert done.stderr == (said if full else "")
    assert system.pids() == pids


@pytest.mark.parametrize("sink", ["{} | true", "{} | head -1"])
def test_logs_end_with_their_reader(system: System, sink: str) -> None:
    done = shell(system, sink.format(deploy("logs", "--lines", "100000")))
    assert done.stderr == ""


def test_errors_that_cannot_be_written_keep_their_status(other: System) -> None:
    other.env["ARENA_HF_PORT"] = "0"
    assert shell(other, deploy("up") + " 2> /dev/full").returncode == 1
    assert shell(other, deploy("up") + " 2>&-").returncode == 1


def test_a_start_whose_reader_goes_away_stays_up(other: System) -> None:
    done = shell(other, f"{deploy('up')} | grep -q up: && exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")
    assert health(other.target) == "SERVING"
    assert shell(other, f"{deploy('down')} | true; exit ${{PIPESTATUS[0]}}").returncode == 0
    assert not other.supervisor.members()


def test_characters_that_the_terminal_lacks_are_escaped(other: System) -> None:
    other.env |= {"PYTHONIOENCODING": "ascii", "ARENA_RUN_DIR": str(other.run_dir / "für\x1b[31m")}
    done = other.deploy("logs")
    assert done.returncode == 1
    assert r"f\xfcr\u001b[31m" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_port_0_is_refused_immediately(other: System, service: Service) -> None:
    """Others would never find the service there."""
    other.env[service.variable] = "0"
    up = other.deploy("up")
    assert (up.returncode, up.stdout) == (1, "")
    assert up.stderr == (
        f"up: {service.name} cannot listen on 127.0.0.1:0: the other services must know its port, "
        f"so choose one from 1 to 65535: make up {service.variable}=PORT\n"
    )


@pytest.mark.parametrize("port", ["abc", "70000", "-1", " 50050", "٣"])
def test_a_port_that_is_none_names_its_variable(other: System, port: str) -> None:
    other.env["ARENA_HF_PORT"] = port
    up = other.deploy("up")
    assert (up.returncode, up.stdout) == (1, "")
    assert up.stderr.startswith("up: configs/hf_models.yaml: listen: ")
    assert up.stderr.endswith(f"; ARENA_HF_PORT is {port!r}\n")


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
def test_a_run_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, command: str, run_dir: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    done = System(tmp_path / run_dir).deploy(command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{command}: ")
    assert done.stderr.endswith(f"{reason}\n")
    assert len(done.stderr.splitlines()) == 1


def test_a_disk_that_takes_nothing_is_one_sentence_and_nothing_starts(other: System) -> None:
    done = shell(other, f"ulimit -f 0; {deploy('up')}")
    assert done.returncode == 1
    assert "supervisord.conf: cannot be written: File too large" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not other.supervisor.members()


def test_a_disk_that_takes_nothing_keeps_down_from_nothing(other: System) -> None:
    other.up()
    done = shell(other, f"ulimit -f 0; {deploy('status')}; {deploy('down')}")
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "down", "")
    assert not other.supervisor.members()


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[System]:
    """A system of a copy of this repository, which can have a .env of its own."""
    copy = tmp_path / "copy"
    for folder in ("deploy", "services", "router", "configs", "arena"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    system = System(tmp_path / "run", root=copy)
    system.env["ARENA_CACHE_DIR"] = os.environ.get("ARENA_CACHE_DIR") or str(ROOT / ".cache")
    yield system
    (copy / ".env").unlink(missing_ok=True)
    system.down()


def test_a_broken_env_file_is_named_and_does_not_block_down(copied: System) -> None:
    (copied.root / ".env").write_bytes("A=1\nA_KEY=münz\n".encode("latin-1"))
    problem = ".env: line 2: is not UTF-8 text: save the file as UTF-8\n"
    up = copied.deploy("up")
    assert (up.returncode, up.stdout, up.stderr) == (1, "", f"up: {problem}")
    for command, status in {"down": 0, "status": 1, "target": 0}.items():
        done = copied.deploy(command)
        assert (done.returncode, done.stderr) == (status, problem)


def test_a_system_is_stopped_though_its_env_file_has_been_broken(copied: System) -> None:
    file = copied.root / ".env"
    run_dir = copied.env.pop("ARENA_RUN_DIR")
    file.write_text(f"\ufeffARENA_RUN_DIR={run_dir}\n", "utf-8")  # with a byte order mark
    copied.up()
    file.write_bytes(f"ARENA_RUN_DIR={run_dir}\n# für alle\n".encode("latin-1"))
    status = copied.deploy("status")
    assert status.returncode == 0
    assert status.stdout.count(" SERVING ") == len(SERVICES)
    assert copied.deploy("logs").stdout
    # Which system is meant is not readable here, so `down` does not say that none was up.
    file.write_bytes(f"ARENA_RUN_DIR={run_dir}-für\n".encode("latin-1"))
    down = copied.deploy("down")
    assert down.returncode == 1
    assert "line 1: is not UTF-8 text" in down.stderr
    assert "ARENA_RUN_DIR is needed" in down.stderr
    file.write_bytes(f"ARENA_RUN_DIR={run_dir}\n".encode("utf-16"))
    assert copied.deploy("down").stdout == "down\n"
    assert not copied.supervisor.members()
