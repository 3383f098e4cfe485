"""The process manager of one run folder: start it, ask it, stop it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import TypeAdapter

from deploy.manager import SOCKET
from deploy.manager_calls import ManagerError, ask
from deploy.program import MARK, STOP_WAIT, environment, render
from deploy.services import ROOT, Service
from services.common.config import Address

#: What addresses.json holds, by service.
_ADDRESSES = TypeAdapter(dict[str, Address])

#: supervisord sets it for a service, whose children inherit it.
_SERVICE_NAME = "SUPERVISOR_PROCESS_NAME"

_DIED = (
    "the process manager has died; its services run on, but are not restarted after a crash; "
    "make up stops them and starts everything again"
)
_RENEW = "; its services run on; make down and make up start a new one"


class DeployError(Exception):
    """What a command reports in place of a result."""


@dataclass(frozen=True)
class Process:
    """The process of one service."""

    state: str
    pid: int
    problem: str = ""


@dataclass(frozen=True)
class Running:
    """What runs for a run folder.

    managed: a process manager keeps the services up; problem: why it cannot be asked,
    and what to do.
    """

    processes: dict[str, Process]
    managed: bool
    problem: str = ""


class Supervisor:
    """supervisord for the services of one run directory."""

    def __init__(self, run_dir: Path) -> None:
        # Whichever link leads there: the name is the mark of its processes.
        self.run_dir = Path(os.path.realpath(run_dir))
        self.socket = self.run_dir / SOCKET
        self._conf = self.run_dir / "supervisord.conf"
        self._addresses = self.run_dir / "addresses.json"

    def log(self, name: str) -> Path:
        return self.run_dir / "logs" / f"{name}.log"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One command at a time may change what runs."""
        for folder in (self.run_dir, self.run_dir / "logs"):
            _private_folder(folder)
        # Only for reading: a full or read-only disk must not keep `down` from its work.
        file = os.open(self.run_dir / "lock", os.O_RDONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def start(self, services: Sequence[Service], addresses: dict[str, str]) -> None:
        """Start the manager, and with it every service. Raises DeployError."""
        environ = environment(services, os.environ) | {
            MARK: str(self.run_dir),
            "PYTHONUNBUFFERED": "1",
        }
        _write_private(self._conf, render(services, environ))
        _write_private(self._addresses, json.dumps(addresses))
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", "deploy.manager", str(self.run_dir)],
            env=environ, cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            # Some of its errors go on with the whole environment, keys and all.
            reason = done.stderr.split("{")[0].strip()
            raise DeployError(f"the process manager does not start: {reason}")

    def look(self) -> Running:
        """Ask the manager what runs; if it does not answer, look at the processes."""
        try:
            return Running(
                {
                    info["name"]: Process(info["statename"], info["pid"], info["spawnerr"])
                    for info in ask(self.run_dir, "getAllProcessInfo")
                },
                managed=True,
            )
        except ManagerError as error:
            members = self.members()
            services = _services(members)
            manager = _manager(members)
            if manager is None:
                problem = _DIED if services else ""
                return Running(services, managed=False, problem=problem)
            problem = f"the process manager (pid {manager.pid}) {error}"
            if error.stopping:
                return Running(services, managed=False, problem=problem)
            return Running(services, managed=True, problem=problem + _RENEW)

    def processes(self) -> dict[str, Process]:
        """The services by name; empty where none runs."""
        return self.look().processes

    def addresses(self) -> dict[str, str]:
        """Where the services that were started listen; empty if that is not known."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            found = _ADDRESSES.validate_json(self._addresses.read_bytes())
            return found if "router" in found else {}
        return {}

    def revive(self) -> None:
        """Start what the manager has given up. Raises DeployError."""
        for name, process in self.processes().items():
            if process.state in ("FATAL", "EXITED", "STOPPED"):
                try:
                    ask(self.run_dir, "startProcess", name, False)
                except ManagerError as error:
                    raise DeployError(f"{name}: the process manager {error}") from error

    def stop(self) -> bool:
        """Stop every process of this run folder; False where none ran."""
        found = self.members()
        manager = _manager(found)
        try:
            ask(self.run_dir, "shutdown")
            asked = True
        except ManagerError:
            asked = False
            if manager is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    manager.terminate()
                    manager.resume()  # a stopped process does not see its signals
        if asked or manager is not None:
            self._wait(found)
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
        return asked or bool(found)

    def members(self) -> list[psutil.Process]:
        """Every process that was started for this run folder.

        Their mark finds them. No file is needed, and no other process can have it.
        """
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.run_dir):
                    found.append(process)
        return found

    def _wait(self, processes: list[psutil.Process]) -> list[psutil.Process]:
        _, alive = psutil.wait_procs(processes, timeout=STOP_WAIT * 2 + 10)
        return alive


def _manager(members: Sequence[psutil.Process]) -> psutil.Process | None:
    return next((process for process in members if _service_name(process) == ""), None)


def _services(members: Sequence[psutil.Process]) -> dict[str, Process]:
    """The services among the members, without the children of each."""
    names = {process.pid: _service_name(process) for process in members}
    services = {}
    for process in members:
        with contextlib.suppress(psutil.Error):
            name = names[process.pid]
            if name and names.get(process.ppid()) != name:
                services[name] = Process("RUNNING", process.pid)
    return services


def _service_name(process: psutil.Process) -> str | None:
    """Which service a process belongs to; empty for the manager, None if it has ended."""
    with contextlib.suppress(psutil.Error):
        return str(process.environ().get(_SERVICE_NAME, ""))
    return None


def _private_folder(path: Path) -> None:
    """Make a folder of our own; refuse one that another user could reach or has made."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise DeployError(f"{path}: is not a folder of this user")
        if stat.S_IMODE(found.st_mode) != 0o700:
            path.chmod(0o700)
    except FileExistsError as error:
        raise DeployError(f"{error.filename}: is not a folder") from error
    except OSError as error:
        raise DeployError(f"{error.filename}: cannot be made: {error.strerror}") from error


def _write_private(path: Path, text: str) -> None:
    try:
        path.touch(mode=0o600)
        path.write_text(text)
    except OSError as error:
        raise DeployError(f"{path}: cannot be written: {error.strerror}") from error
