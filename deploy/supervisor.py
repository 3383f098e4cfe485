"""Start, inspect and stop the services of one run folder through their process manager."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pydantic import TypeAdapter

from deploy.instances import Instance, split_name
from deploy.managed import common_environment
from deploy.manager import SOCKET, ManagerError, call_manager
from deploy.manager_config import STOP_WAIT, render_config
from deploy.services import ALL_SERVICES, ROOT, find_service
from services.common.addresses import Address

#: Set to the run folder in every process of a run, so that `members` finds all of them.
MARK = "ARENA_SUPERVISED_BY"

#: States of a process that runs, in supervisord's words.
_ALIVE = ("STARTING", "RUNNING", "STOPPING", "BACKOFF")

#: addresses.json: the address of each process.
_ADDRESSES = TypeAdapter(dict[str, Address])

#: supervisord sets it for a service, whose children inherit it.
_SERVICE_NAME = "SUPERVISOR_PROCESS_NAME"

_DIED = (
    "the process manager has died; its services still run, but do not restart after a crash; "
    "make up stops them and starts everything again"
)
_REPLACE = "; its services still run; make down and make up start a new one"


class DeployError(Exception):
    """Why a command failed, for the user."""


@dataclass(frozen=True)
class Process:
    """The process of one service."""

    state: str
    pid: int
    problem: str = ""


@dataclass(frozen=True)
class SystemState:
    """What runs for a run folder.

    managed: a process manager keeps the services running. problem: why it does not answer,
    and what to do.
    """

    processes: dict[str, Process]
    managed: bool
    problem: str = ""


class Supervisor:
    """supervisord for the services of one run folder."""

    def __init__(self, run_dir: Path) -> None:
        # The real path marks the processes, so a link to the folder finds them too.
        self.run_dir = Path(os.path.realpath(run_dir))
        self.socket = self.run_dir / SOCKET
        self._conf = self.run_dir / "supervisord.conf"
        self._addresses = self.run_dir / "addresses.json"
        #: What the router reads, see router/targets.py.
        self.replicas = self.run_dir / "replicas.json"
        #: Bytes that each log had at `mark_logs`.
        self._log_sizes: dict[str, int] = {}

    def log(self, name: str) -> Path:
        """The log of a service."""
        return self.run_dir / "logs" / f"{name}.log"

    def logs(self) -> list[str]:
        """The names of the processes that have a log."""
        known = {service.name for service in ALL_SERVICES}
        names = (path.stem for path in (self.run_dir / "logs").glob("*.log"))
        return [name for name in names if split_name(name)[0] in known]

    def mark_logs(self, names: Iterable[str]) -> None:
        """Let `log_lines` skip what these logs hold now."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._log_sizes[name] = self.log(name).stat().st_size

    def log_lines(self, name: str) -> list[str]:
        """The lines of a service's log that were written after `mark_logs`."""
        try:
            log = self.log(name).read_bytes()
        except FileNotFoundError:
            return []
        size = self._log_sizes.get(name, 0)
        # A log that was rotated since then is shorter.
        return log[size if size <= len(log) else 0 :].decode(errors="replace").splitlines()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the run folder: only one command at a time may change what runs."""
        for folder in (self.run_dir, self.run_dir / "logs"):
            _make_private_folder(folder)
        # Opened for reading only: `down` must also work on a full or read-only disk.
        file = os.open(self.run_dir / "lock", os.O_RDONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def start(self) -> None:
        """Start the manager, which starts no service by itself. Raises DeployError."""
        environ = common_environment(os.environ) | {
            MARK: str(self.run_dir),
            "PYTHONUNBUFFERED": "1",
        }
        _write_private(self._conf, render_config([]))
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", "deploy.manager", str(self.run_dir)],
            env=environ, cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            # Some of its errors end with the whole environment, keys included.
            reason = done.stderr.split("{")[0].strip()
            raise DeployError(f"the process manager does not start: {reason}")

    def add(self, instances: Sequence[Instance], environ: Mapping[str, str]) -> None:
        """Start processes, the last one first. Raises DeployError.

        environ: all variables; each service gets those that it may see.
        """
        new = {instance.name: instance for instance in instances}
        self._write({**self._read_instances(), **new})
        self.mark_logs(new)
        self._call("reloadConfig")
        for name, instance in reversed(new.items()):
            seen = instance.service.sees(environ)
            self._call("addProcessGroup", name)
            self._call("arena.prepare", name, json.dumps(seen), instance.service.stamp(seen))
            self._call("startProcess", name, False)

    def remove(self, names: Sequence[str]) -> None:
        """Stop processes after their calls in flight have ended. Raises DeployError."""
        self._stop(names)
        self._write({k: v for k, v in self._read_instances().items() if k not in names})
        self._call("reloadConfig")

    def restart(self, instance: Instance, environ: Mapping[str, str]) -> None:
        """Stop a process as `remove` does, and start it as `add` does. Raises DeployError."""
        self._stop([instance.name])
        self.add([instance], environ)

    def _stop(self, names: Sequence[str]) -> None:
        for name in names:
            with contextlib.suppress(DeployError):  # it may have stopped by itself
                self._call("stopProcess", name, False)
        self._wait_stopped(names)
        for name in names:
            self._call("removeProcessGroup", name)

    def signal(self, name: str, signum: str) -> None:
        """Send a signal, such as HUP, to a process that runs."""
        with contextlib.suppress(ManagerError):
            call_manager(self.run_dir, "signalProcess", name, signum)

    def starts(self) -> dict[str, tuple[dict[str, str], str]]:
        """The variables and the stamp with which each process was started. Raises DeployError."""
        starts: dict[str, tuple[dict[str, str], str]] = json.loads(self._call("arena.list"))
        return starts

    def _call(self, method: str, *arguments: object) -> Any:
        try:
            return call_manager(self.run_dir, method, *arguments)
        except ManagerError as error:
            raise DeployError(f"the process manager {error}") from error

    def _wait_stopped(self, names: Sequence[str]) -> None:
        give_up = time.monotonic() + STOP_WAIT + 10
        while any(self.processes()[name].state in _ALIVE for name in names):
            if time.monotonic() > give_up:
                raise DeployError(f"{', '.join(names)} does not stop")
            time.sleep(0.05)

    def _write(self, instances: Mapping[str, Instance]) -> None:
        _write_private(self._conf, render_config(instances.values()))
        addresses = {name: instance.address for name, instance in instances.items()}
        _write_private(self._addresses, json.dumps(addresses))

    def _read_instances(self) -> dict[str, Instance]:
        """The processes that this run folder has, in their order."""
        found = {}
        for name, address in self.addresses().items():
            service, number = split_name(name)
            found[name] = Instance(find_service(service), number, address)
        return found

    def inspect(self) -> SystemState:
        """Ask the manager what runs; if it does not answer, look for the processes."""
        try:
            answers = call_manager(self.run_dir, "getAllProcessInfo")
        except ManagerError as error:
            members = self.members()
            services = _services(members)
            manager = _manager(members)
            if manager is None:
                return SystemState(services, managed=False, problem=_DIED if services else "")
            problem = f"the process manager (pid {manager.pid}) {error}"
            if error.stopping:
                return SystemState(services, managed=False, problem=problem)
            return SystemState(services, managed=True, problem=problem + _REPLACE)
        return SystemState(
            {a["name"]: Process(a["statename"], a["pid"], a["spawnerr"]) for a in answers},
            managed=True,
        )

    def processes(self) -> dict[str, Process]:
        """The processes by service; empty if none runs."""
        return self.inspect().processes

    def addresses(self) -> dict[str, str]:
        """The addresses of the services that were started; empty if they are not known."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            addresses = _ADDRESSES.validate_json(self._addresses.read_bytes())
            return addresses if "router" in addresses else {}
        return {}

    def revive(self) -> None:
        """Start the services that the manager no longer restarts. Raises DeployError."""
        self._wait_stopped([n for n, one in self.processes().items() if one.state == "STOPPING"])
        for name, process in self.processes().items():
            if process.state in ("FATAL", "EXITED", "STOPPED"):
                try:
                    call_manager(self.run_dir, "startProcess", name, False)
                except ManagerError as error:
                    raise DeployError(f"{name}: the process manager {error}") from error

    def stop(self) -> bool:
        """Stop every process of this run folder; False if none ran."""
        members = self.members()
        manager = _manager(members)
        try:
            call_manager(self.run_dir, "shutdown")
            stopping = True
        except ManagerError:
            stopping = False
            if manager is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    manager.terminate()
                    manager.resume()  # a suspended process does not see its signals
        if stopping or manager is not None:
            _wait_gone(members)
        # The services of a killed manager still run.
        survivors = self.members()
        for process in survivors:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in _wait_gone(survivors):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        files = (self._conf, self._addresses, self.replicas, self.run_dir / "supervisord.pid")
        for path in (self.socket, *files):
            path.unlink(missing_ok=True)
        return stopping or bool(members)

    def members(self) -> list[psutil.Process]:
        """Every process that was started for this run folder, found by its mark.

        This needs no file, and no other process has the mark.
        """
        members = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.run_dir):
                    members.append(process)
        return members


def _wait_gone(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Wait until these processes have ended. Returns those that still run at the time limit."""
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
    """The service that a process belongs to; empty for the manager, None if it has ended."""
    with contextlib.suppress(psutil.Error):
        return str(process.environ().get(_SERVICE_NAME, ""))
    return None


def _make_private_folder(path: Path) -> None:
    """Make a folder for this user only; refuse one that belongs to another user."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise DeployError(f"{path}: is not a folder of this user")
        if stat.S_IMODE(status.st_mode) != 0o700:
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
