"""The process manager of one run directory: start it, ask it, stop it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from deploy.program import MARK, STOP_WAIT, environment, render
from deploy.services import Service

#: A Unix socket's path has at most 107 bytes (104 on some systems); the manager
#: appends its pid for a moment.
_LONGEST_SOCKET = 90


class DeployError(Exception):
    """What a command reports in place of a result."""


@dataclass(frozen=True)
class Process:
    """What the manager knows of one service."""

    state: str
    pid: int
    problem: str = ""


class Supervisor:
    """supervisord for the services of one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.socket = _socket_path(run_dir)
        self._conf = run_dir / "supervisord.conf"
        self._addresses = run_dir / "addresses.json"

    def log(self, name: str) -> Path:
        return self.run_dir / "logs" / f"{name}.log"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One command at a time may change what runs."""
        for folder in (self.run_dir, self.run_dir / "logs"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.run_dir / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def start(self, services: Sequence[Service], addresses: dict[str, str]) -> None:
        """Start the manager, and with it every service. Raises DeployError."""
        environ = environment(services, os.environ) | {
            MARK: str(self.run_dir),
            "PYTHONUNBUFFERED": "1",
        }
        _private_folder(self.socket.parent)
        _write_private(self._conf, render(services, self.socket, environ))
        _write_private(self._addresses, json.dumps(addresses))
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", "supervisor.supervisord", "-c", self._conf.name],
            env=environ, cwd=self.run_dir, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            # Some of its errors go on with the whole environment, keys and all.
            raise DeployError(f"the process manager does not start: {done.stderr.split('{')[0]}")

    def processes(self) -> dict[str, Process]:
        """The services by name; empty where no manager runs."""
        with contextlib.suppress(OSError, xmlrpc.client.Error):
            return {
                info["name"]: Process(info["statename"], info["pid"], info["spawnerr"])
                for info in self._call("getAllProcessInfo")
            }
        return {}

    def addresses(self) -> dict[str, str]:
        """Where the services that were started listen."""
        return dict(json.loads(self._addresses.read_text()))

    def revive(self) -> None:
        """Start what the manager has given up."""
        for name, process in self.processes().items():
            if process.state in ("FATAL", "EXITED", "STOPPED"):
                self._call("startProcess", name, False)

    def stop(self) -> bool:
        """Stop every process of this run directory; False where none ran."""
        found = bool(self.processes())
        if found:
            self._call("shutdown")
            self._wait(self.members())
        # Where the manager was killed, its services live on and are not asked above.
        left = self.members()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in self._wait(left):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for path in (self.socket, self._conf, self._addresses, self.run_dir / "supervisord.pid"):
            path.unlink(missing_ok=True)
        if self.socket.parent != self.run_dir and self.socket.parent.exists():
            self.socket.parent.rmdir()
        return found or bool(left)

    def members(self) -> list[psutil.Process]:
        """Every process that was started for this run directory, the manager first."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.run_dir):
                    found.append(process)
        return found

    def _wait(self, processes: list[psutil.Process]) -> list[psutil.Process]:
        _, alive = psutil.wait_procs(processes, timeout=STOP_WAIT * 2 + 10)
        return alive

    def _call(self, method: str, *arguments: object) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        with xmlrpc.client.ServerProxy("http://localhost", transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)


def _socket_path(run_dir: Path) -> Path:
    path = run_dir / "supervisor.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return path
    short = hashlib.sha256(os.fsencode(run_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"arena-llm-{os.geteuid()}-{short}" / "supervisor.sock"


def _private_folder(path: Path) -> None:
    """Make a folder of our own; refuse one that another user could reach or has made."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise DeployError(f"{path}: is not a folder of this user")
    path.chmod(0o700)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
