"""make up, status, logs, down: real processes under the real process manager."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from arena_llm import Client
from deploy.probe import health
from deploy.services import ROOT
from deploy.up import MODEL, PROMPT
from tests.support.system import System
from tests.support.waiting import wait_until


@pytest.fixture
def other(tmp_path: Path) -> Iterator[System]:
    """A system that is not up, in a folder whose path is too long for a socket."""
    other = System(tmp_path / ("a long % path " * 8) / "run")
    yield other
    other.down()


def test_up_is_idempotent(system: System) -> None:
    before = [system.pid("router"), system.pid("hf")]
    again = system.deploy("up")
    assert again.returncode == 0, again.stderr
    assert [system.pid("router"), system.pid("hf")] == before
    assert "already up" in again.stdout


def settled_log(system: System) -> list[str]:
    """The router's lines once none is to come any more, as a line follows its answer."""
    mark = f"mark-{uuid4()}"
    with Client(system.target) as llm:
        llm.generate(MODEL, "7", choices=["4"], session=mark)
    wait_until(lambda: mark in system.log("router"))
    return system.log("router").splitlines()


def answered(system: System) -> int:
    """How many calls the router has passed on, but for those above."""
    log = settled_log(system)
    return sum("rpc=Generate status=OK" in line and "session=mark-" not in line for line in log)


def test_up_shows_a_generated_text_and_what_to_try_next(system: System) -> None:
    calls = answered(system)
    lines = system.deploy("up").stdout.splitlines()
    asked = lines.index(f"{MODEL}, asked {PROMPT!r}:")
    assert "Paris" in lines[asked + 1]
    assert f"next: ARENA_LLM_TARGET={system.target} .venv/bin/arena-llm" in lines[-1]
    assert answered(system) == calls + 1
    done = system.run(["bash", "-c", lines[-1].removeprefix("next: ")])
    assert (done.returncode, done.stdout.strip() in ("0", "4")) == (0, True), done.stderr


def test_status_shows_each_service(system: System) -> None:
    status = system.deploy("status", "--json")
    rows = {row["service"]: row for row in json.loads(status.stdout)}
    assert status.returncode == 0
    assert list(rows) == list(system.ports)
    for name, port in system.ports.items():
        row = rows[name]
        assert (row["health"], row["address"]) == ("SERVING", f"127.0.0.1:{port}")
        assert row["state"] in ("STARTING", "RUNNING")
        assert row["pid"] == system.pid(name)
        assert row["memory_mb"] > 10
    table = system.deploy("status").stdout
    assert f"{system.pid('hf')}  SERVING      {system.hf_target}" in table


def test_logs_end_at_once_where_nobody_reads_along(system: System) -> None:
    last = settled_log(system)[-3:]
    logs = system.deploy("logs", "--service", "router", "--lines", "3")
    assert (logs.returncode, logs.stdout.splitlines()) == (0, last)


def test_nothing_listens_beyond_loopback(system: System) -> None:
    members = system.supervisor.members()
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in members
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }
    assert len(members) >= 3
    assert listening == {"127.0.0.1"}


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux alone has this policy")
def test_what_passes_messages_on_lets_others_finish_their_turn(system: System) -> None:
    policies = {
        name: os.sched_getscheduler(system.pid(name))
        for name in ("router", "openrouter", "litellm", "hf")
    }
    assert policies == dict.fromkeys(policies, os.SCHED_BATCH) | {"hf": os.SCHED_OTHER}


def test_only_this_user_reaches_the_manager(system: System) -> None:
    assert stat.S_IMODE(system.run_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(system.supervisor.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(system.supervisor.socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((system.run_dir / "supervisord.conf").stat().st_mode) == 0o600
    assert all(
        stat.S_IMODE(path.stat().st_mode) == 0o600
        for path in (system.supervisor.log("router"), system.supervisor.log("hf"))
    )


def test_a_running_system_does_not_move(system: System) -> None:
    moved = system.run(["env", "ARENA_ROUTER_PORT=1", sys.executable, "-m", "deploy", "up"])
    assert moved.returncode == 1
    assert f"router is up on {system.target}, not on 127.0.0.1:1" in moved.stderr


def test_life(other: System) -> None:
    """One system from start to end: keys, a crash, a killed manager, the end."""
    keys = {"HF_TOKEN": "hf", "OPENAI_API_KEY": "litellm", "OPENROUTER_API_KEY": "openrouter"}
    other.env |= dict.fromkeys(keys, "planted-in-the-environment")
    other.up()

    environ = {name: psutil.Process(other.pid(name)).environ() for name in other.ports}
    for key, owner in keys.items():
        assert [name for name, seen in environ.items() if key in seen] == [owner]
    written = "".join(path.read_text() for path in other.run_dir.rglob("*") if path.is_file())
    assert other.env["HF_TOKEN"] not in written

    killed = other.pid("router")
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: other.pid("router") not in (0, killed) and health(other.target) == "SERVING")

    manager, *services = other.supervisor.members()
    assert {process.pid for process in services} >= {other.pid("router"), other.pid("hf")}
    manager.kill()
    psutil.wait_procs([manager])
    assert health(other.target) == "SERVING"
    status = other.deploy("status")
    assert status.returncode == 1
    assert status.stdout.count(" SERVING ") == len(other.ports)
    assert "the process manager has died" in status.stderr

    down = other.deploy("down")
    assert (down.returncode, down.stdout) == (0, "down\n")
    assert not any(process.is_running() for process in services)
    assert {health(other.target), health(other.hf_target)} == {"UNREACHABLE"}
    assert not other.supervisor.socket.exists()
    assert {path.name for path in other.run_dir.iterdir()} == {"lock", "logs"}
    assert other.deploy("down").stdout == "nothing was up\n"
    assert other.deploy("status").returncode == 1


def test_a_system_whose_manager_cannot_be_asked(other: System, tmp_path: Path) -> None:
    """Its socket is swept, or all of its folder; the shell has another temporary folder."""
    other.up()
    pids = {name: other.pid(name) for name in other.ports}
    manager = other.supervisor.members()[0]
    other.env["TMPDIR"] = str(tmp_path)
    for path in (other.supervisor.socket, other.run_dir):
        assert path.exists()
        path.unlink() if path != other.run_dir else shutil.rmtree(path)
        status = other.deploy("status", "--json")
        rows = {row["service"]: row for row in json.loads(status.stdout)}
        assert {name: row["pid"] for name, row in rows.items()} == pids
        assert {row["health"] for row in rows.values()} == {"SERVING"}
        assert {row["state"] for row in rows.values()} == {"RUNNING"}
        again = other.deploy("up")
        for done in (status, again):
            assert done.returncode == 0
            assert f"(pid {manager.pid}) cannot be asked" in done.stderr
            assert f"{other.supervisor.socket} is gone" in done.stderr
        assert "already up" in again.stdout
        assert {name: other.pid(name) for name in other.ports} == pids

    os.kill(pids["router"], signal.SIGKILL)
    wait_until(lambda: other.pids().get("router", pids["router"]) != pids["router"])
    wait_until(lambda: health(other.target) == "SERVING")
    assert other.deploy("down").stdout == "down\n"
    assert not manager.is_running()
    assert not other.supervisor.members()


def test_a_manager_that_hangs_is_stopped(other: System) -> None:
    other.up()
    manager = other.supervisor.members()[0]
    manager.suspend()
    status = other.deploy("status")
    assert status.stdout.count(" SERVING ") == len(other.ports)
    assert f"(pid {manager.pid}) does not answer" in status.stderr
    assert other.deploy("down").stdout == "down\n"
    assert not other.supervisor.members()


def test_a_run_folder_has_many_names(other: System, tmp_path: Path) -> None:
    other.up()
    link = tmp_path / "link"
    link.symlink_to(other.run_dir)
    other.env["ARENA_RUN_DIR"] = str(link)
    assert "already up" in other.deploy("up").stdout
    other.supervisor.socket.unlink()
    assert other.deploy("down").stdout == "down\n"
    assert not other.supervisor.members()


def test_a_crash_is_reported_while_another_service_starts(other: System, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(ROOT / "configs", tmp_path / "configs"))
    (broken / "litellm_models.yaml").write_text(
        "listen: 127.0.0.1:${ARENA_LITELLM_PORT}\nsurprise: 1\n"
    )
    # The router hangs before it serves, so a wait for it alone would not end.
    other.env["ARENA_CONFIG_DIR"] = str(broken)
    with subprocess.Popen(
        [sys.executable, "-m", "deploy", "up"], cwd=ROOT, env=other.env, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as up:  # fmt: skip
        wait_until(lambda: other.pids().get("router", 0) != 0)
        router = other.pids()["router"]
        os.kill(router, signal.SIGSTOP)
        wait_until(lambda: not other.supervisor.look().managed)  # it is stopping all of it
        os.kill(router, signal.SIGCONT)
        _, errors = up.communicate()
    assert up.returncode == 1
    assert "litellm does not stay up" in errors
    assert not other.supervisor.members()


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_up_leaves_nothing(
    other: System, signum: signal.Signals, status: int
) -> None:
    command = [sys.executable, "-m", "deploy", "up"]
    with subprocess.Popen(command, cwd=ROOT, env=other.env, stdout=subprocess.DEVNULL) as up:
        wait_until(lambda: bool(other.supervisor.processes()))
        up.send_signal(signum)
    assert up.returncode == status
    assert not other.supervisor.members()
    assert {path.name for path in other.run_dir.iterdir()} == {"lock", "logs"}


@pytest.mark.parametrize("service", ["router", "hf"])
def test_a_port_in_use_is_named_and_nothing_starts(other: System, service: str) -> None:
    with socket.create_server(("127.0.0.1", other.ports[service])):
        up = other.deploy("up")
    assert up.returncode == 1
    assert f"{service} cannot listen on 127.0.0.1:{other.ports[service]}" in up.stderr
    assert f"pid {os.getpid()}" in up.stderr
    assert f"make up ARENA_{service.upper()}_PORT=PORT" in up.stderr
    assert not other.supervisor.members()


def test_a_service_that_fails_is_named_with_its_log(other: System, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(ROOT / "configs", tmp_path / "configs"))
    with (broken / "hf_models.yaml").open("a") as models:
        models.write("\nsurprise: 1\n")
    other.env["ARENA_CONFIG_DIR"] = str(broken)
    up = other.deploy("up")
    assert up.returncode == 1
    assert "hf does not stay up" in up.stderr
    assert "surprise: Extra inputs are not permitted" in up.stderr
    assert not other.supervisor.members()
    assert health(other.target) == "UNREACHABLE"


def test_two_services_on_one_address_are_refused(other: System) -> None:
    other.env["ARENA_HF_PORT"] = other.env["ARENA_ROUTER_PORT"]
    up = other.deploy("up")
    assert up.returncode == 1
    assert "hf cannot listen" in up.stderr
    assert "same address" in up.stderr
