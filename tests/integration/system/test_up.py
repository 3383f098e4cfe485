"""The commands up, status and logs on the running system, and what it lets others see."""

from __future__ import annotations

import json
import os
import stat
import urllib.request
from collections.abc import Sequence
from uuid import uuid4

import psutil
import pytest

from arena_llm import Client
from deploy.up import MODEL, PROMPT
from tests.support.system import PLANTED_KEYS, PLANTED_VALUE, System
from tests.support.waiting import wait_until


def test_up_is_idempotent(system: System) -> None:
    before = [system.pid("router"), system.pid("hf")]
    again = system.deploy("up")
    assert again.returncode == 0, again.stderr
    assert [system.pid("router"), system.pid("hf")] == before
    assert "already up" in again.stdout


def settled_log(system: System) -> list[str]:
    """The lines of the router's log, after the line of a last call has been written."""
    mark = f"mark-{uuid4()}"
    with Client(system.target) as llm:
        llm.generate(MODEL, "7", choices=["4"], session=mark)
    wait_until(lambda: mark in system.log("router"))
    return system.log("router").splitlines()


def count_calls(system: System) -> int:
    """The number of completed Generate calls, without those of `settled_log`."""
    log = settled_log(system)
    return sum("rpc=Generate status=OK" in line and "session=mark-" not in line for line in log)


def test_up_shows_a_generated_text_and_a_command_to_try_next(system: System) -> None:
    calls = count_calls(system)
    lines = system.deploy("up").stdout.splitlines()
    heading = lines.index(f"{MODEL}, asked {PROMPT!r}:")
    assert "Paris" in lines[heading + 1]
    assert lines[-1].startswith(f"  ARENA_LLM_TARGET={system.target} .venv/bin/arena-llm ")
    assert count_calls(system) == calls + 1
    done = system.shell(lines[-1])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("0", "4")


def test_up_prints_the_address_of_the_page(system: System) -> None:
    said = f"what is called, and by whom: {system.page} or"
    assert said in system.deploy("up").stdout
    with urllib.request.urlopen(f"{system.page}status.json") as answer:  # noqa: S310 - http
        assert [one["backend"] for one in json.load(answer)["backends"]]


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


def test_logs_do_not_follow_without_a_terminal(system: System) -> None:
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


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="SCHED_BATCH is Linux only")
def test_services_that_forward_calls_run_under_sched_batch(system: System) -> None:
    policies = {
        name: os.sched_getscheduler(system.pid(name))
        for name in ("router", "openrouter", "litellm", "hf")
    }
    assert policies == dict.fromkeys(policies, os.SCHED_BATCH) | {"hf": os.SCHED_OTHER}


def test_only_this_user_can_reach_the_manager(system: System) -> None:
    assert stat.S_IMODE(system.run_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(system.supervisor.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(system.supervisor.socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((system.run_dir / "supervisord.conf").stat().st_mode) == 0o600
    assert all(
        stat.S_IMODE(path.stat().st_mode) == 0o600
        for path in (system.supervisor.log("router"), system.supervisor.log("hf"))
    )


@pytest.mark.parametrize("command", [("up",), ("restart", "router")], ids=" ".join)
def test_a_running_system_keeps_its_ports(system: System, command: Sequence[str]) -> None:
    moved = system.run(["env", "ARENA_ROUTER_PORT=1", *system.command(*command)])
    assert moved.returncode == 1
    assert f"router is up on {system.target}, not on 127.0.0.1:1" in moved.stderr


def test_each_service_sees_its_own_keys_only(system: System) -> None:
    environ = {name: psutil.Process(system.pid(name)).environ() for name in system.ports}
    for key, owner in PLANTED_KEYS.items():
        assert [name for name, variables in environ.items() if key in variables] == [owner]
    written = "".join(path.read_text() for path in system.run_dir.rglob("*") if path.is_file())
    assert PLANTED_VALUE not in written
