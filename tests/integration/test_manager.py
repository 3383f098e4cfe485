"""The process manager of `make up`: crashes, signals and lost files, in small systems."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
from pathlib import Path

import psutil
import pytest

from deploy.certificates import make_certificates
from deploy.probe import health
from deploy.services import ROOT
from tests.support.system import SmallSystem
from tests.support.waiting import wait_until


def is_restarted(system: SmallSystem, service: str, killed: int) -> bool:
    """Whether a service serves again in another process than the killed one."""
    address = f"127.0.0.1:{system.ports[service]}"
    return system.pids().get(service, 0) not in (0, killed) and health(address) == "SERVING"


def find_manager(system: SmallSystem) -> psutil.Process:
    """The process manager of a system that is up."""
    members = system.supervisor.members()
    return next(process for process in members if "deploy.manager" in process.cmdline())


def test_a_crash_the_death_of_the_manager_and_the_end(small: SmallSystem) -> None:
    small.up()
    killed = small.pid("router")
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: is_restarted(small, "router", killed))

    manager = find_manager(small)
    services = [process for process in small.supervisor.members() if process != manager]
    assert {process.pid for process in services} >= {small.pid("router"), small.pid("hf")}
    manager.kill()
    psutil.wait_procs([manager])
    assert health(small.target) == "SERVING"
    status = small.deploy("status")
    assert status.returncode == 1
    assert status.stdout.count(" SERVING ") == len(small.ports)
    assert "the process manager has died" in status.stderr

    down = small.deploy("down")
    assert (down.returncode, down.stdout) == (0, "down\n")
    assert not any(process.is_running() for process in services)
    assert {health(small.target), health(small.hf_target)} == {"UNREACHABLE"}
    assert not small.supervisor.socket.exists()
    assert {path.name for path in small.run_dir.iterdir()} == {"lock", "logs"}
    assert small.deploy("down").stdout == "nothing was up\n"
    assert small.deploy("status").returncode == 1


def test_lost_socket_or_run_folder(small: SmallSystem, tmp_path: Path) -> None:
    """Every command still works when the manager's socket, then its whole folder, is deleted."""
    small.up()
    pids = {name: small.pid(name) for name in small.ports}
    manager = find_manager(small)
    small.env["TMPDIR"] = str(tmp_path)
    for path in (small.supervisor.socket, small.run_dir):
        assert path.exists()
        path.unlink() if path != small.run_dir else shutil.rmtree(path)
        status = small.deploy("status", "--json")
        rows = {row["service"]: row for row in json.loads(status.stdout)}
        assert {name: row["pid"] for name, row in rows.items()} == pids
        assert {row["health"] for row in rows.values()} == {"SERVING"}
        assert {row["state"] for row in rows.values()} == {"RUNNING"}
        again = small.deploy("up")
        for done in (status, again):
            assert done.returncode == 0
            assert f"(pid {manager.pid}) cannot be reached" in done.stderr
            assert f"{small.supervisor.socket} is gone" in done.stderr
        assert "already up" in again.stdout
        assert {name: small.pid(name) for name in small.ports} == pids

    os.kill(pids["router"], signal.SIGKILL)
    wait_until(lambda: is_restarted(small, "router", pids["router"]))
    assert small.deploy("down").stdout == "down\n"
    assert not manager.is_running()
    assert not small.supervisor.members()


def test_a_manager_that_hangs_is_stopped(small: SmallSystem) -> None:
    small.up()
    manager = find_manager(small)
    manager.suspend()
    status = small.deploy("status")
    assert status.stdout.count(" SERVING ") == len(small.ports)
    assert f"(pid {manager.pid}) does not answer" in status.stderr
    assert small.deploy("down").stdout == "down\n"
    assert not small.supervisor.members()


def test_a_run_folder_may_be_a_symbolic_link(small: SmallSystem, tmp_path: Path) -> None:
    small.up()
    link = tmp_path / "link"
    link.symlink_to(small.run_dir)
    small.env["ARENA_RUN_DIR"] = str(link)
    assert "already up" in small.deploy("up").stdout
    small.supervisor.socket.unlink()
    assert small.deploy("down").stdout == "down\n"
    assert not small.supervisor.members()


def test_all_configuration_files_are_checked_before_anything_starts(
    small: SmallSystem, tmp_path: Path
) -> None:
    configs = Path(shutil.copytree(ROOT / "configs", tmp_path / "configs"))
    small.env["ARENA_CONFIG_DIR"] = str(configs)
    for name in ("router", "hf_models"):
        with (configs / f"{name}.yaml").open("a") as file:
            file.write("\nsurprise: 1\n")
    up = small.deploy("up")
    assert (up.returncode, up.stdout) == (1, "")
    assert [line.partition(": surprise: ")[0] for line in up.stderr.splitlines()] == [
        f"up: {configs}/router.yaml",
        f"{configs}/hf_models.yaml",
    ]
    assert not small.supervisor.log("hf").exists()


def test_a_crash_is_reported_while_another_service_starts(small: SmallSystem) -> None:
    """The router is stopped by a signal, so waiting for its health alone would not end."""
    log = small.supervisor.log("hf")
    log.parent.mkdir(parents=True)
    log.write_text("a line of an earlier start\n")

    small.env["ARENA_PLANTED_CRASH"] = "planted"
    with small.start("up") as up:
        wait_until(lambda: small.pids().get("router", 0) != 0)
        router = small.pids()["router"]
        os.kill(router, signal.SIGSTOP)
        wait_until(lambda: not small.supervisor.inspect().managed)  # it stops every service
        os.kill(router, signal.SIGCONT)
        _, errors = up.communicate()
    assert up.returncode == 1
    assert errors.startswith("up: hf does not stay up")
    assert f"the end of {log}:\nplanted\n" in errors
    assert not small.supervisor.members()
    assert health(small.target) == "UNREACHABLE"


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_up_stops_what_it_started(
    small: SmallSystem, signum: signal.Signals, status: int
) -> None:
    with small.start("up") as up:
        wait_until(lambda: bool(small.supervisor.processes()))
        up.send_signal(signum)
        up.communicate()
    assert up.returncode == status
    assert not small.supervisor.members()
    assert {path.name for path in small.run_dir.iterdir()} == {"lock", "logs"}


def test_every_port_in_use_is_named_and_nothing_starts(small: SmallSystem) -> None:
    with contextlib.ExitStack() as stack:
        for port in small.ports.values():
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        up = small.deploy("up")
    assert up.returncode == 1
    for name, port in small.ports.items():
        assert f"{name} cannot listen on 127.0.0.1:{port}: " in up.stderr
        assert re.search(rf"make up .*ARENA_{name.upper()}_PORT=\d+", up.stderr)
    assert f"pid {os.getpid()}" in up.stderr
    assert not small.supervisor.members()


def test_two_services_on_one_address_are_refused(small: SmallSystem) -> None:
    small.env["ARENA_HF_PORT"] = small.env["ARENA_ROUTER_PORT"]
    up = small.deploy("up")
    assert up.returncode == 1
    assert "hf cannot listen" in up.stderr
    assert "same address" in up.stderr


def test_an_encrypted_router_is_asked_with_the_files_beside_its_certificate(
    tmp_path: Path,
) -> None:
    make_certificates(tmp_path / "certs", [])
    configs = Path(shutil.copytree(ROOT / "configs", tmp_path / "configs"))
    files = {"certificate": "server.crt", "key": "server.key", "client_ca": "ca.crt"}
    tls = {key: str(tmp_path / "certs" / name) for key, name in files.items()}
    with (configs / "router.yaml").open("a") as file:
        file.write(f"tls: {json.dumps(tls)}\n")
    system = SmallSystem(tmp_path / "run", {"ARENA_CONFIG_DIR": str(configs)})
    try:
        system.up()
        status = system.deploy("status")
        assert (status.returncode, status.stderr) == (0, "")
        encrypted = (configs / "router.yaml").read_text()
        shutil.copy(ROOT / "configs/router.yaml", configs)
        status = system.deploy("status")
        says = "router cannot be asked: it listens {}; make up restarts it with its file\n"
        assert status.returncode == 1
        assert status.stderr == says.format("with TLS, and its file has no tls:")
        system.up()
        (configs / "router.yaml").write_text(encrypted)
        status = system.deploy("status")
        assert status.returncode == 1
        assert status.stderr == says.format("without TLS, and its file has tls:")
        system.down()
        (tmp_path / "certs/client.crt").unlink()
        up = system.deploy("up")
        assert up.returncode == 1
        assert "router.yaml: tls: to see whether the service works" in up.stderr
        assert "certs/client.crt" in up.stderr
    finally:
        system.close()
