"""Running systems of real processes, each with its own ports and its own folder."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deploy.services import ROOT, SERVICES, ManagedService
from deploy.supervisor import Process, Supervisor
from tests.support.guard import Guard
from tests.support.small_deploy import small_services

#: Variables of the calling shell or make that must not reach a system under test.
_FOREIGN = ("ARENA_", "MAKE", "MFLAGS", "PYTEST_", "VLLM")
_KEPT = ("ARENA_CACHE_DIR",)

#: Variables in the environment of the shared system, and the only service that may see each.
#: No service uses them.
PLANTED_KEYS = {
    "HF_PLANTED_TOKEN": "hf",
    "PLANTED_API_KEY": "litellm",
    "OPENROUTER_PLANTED_API_KEY": "openrouter",
}
PLANTED_VALUE = "planted-in-the-environment"


class System:
    """The services of `make up`, started by the same code: `python -m deploy`."""

    #: The module that runs the commands.
    module = "deploy"
    services: Sequence[ManagedService] = SERVICES

    def __init__(
        self, run_dir: Path, environ: Mapping[str, str] | None = None, root: Path = ROOT
    ) -> None:
        self.run_dir = run_dir
        #: The folder that holds the code.
        self.root = root
        ports = free_ports(len(self.services))
        self.ports = dict(zip((s.name for s in self.services), ports, strict=True))
        self.target = f"127.0.0.1:{self.ports['router']}"
        self.hf_target = f"127.0.0.1:{self.ports['hf']}"
        self.supervisor = Supervisor(run_dir)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name in _KEPT or not name.startswith(_FOREIGN)
        }
        #: The environment of every command that uses this system.
        self.env = inherited | {
            "ARENA_RUN_DIR": str(run_dir),
            "ARENA_LLM_TARGET": self.target,
            **{s.variable: str(self.ports[s.name]) for s in self.services},
            **(environ or {}),
        }

        self._guard = self._stop_at_exit()

    def command(self, *arguments: str) -> list[str]:
        """The command line of `python -m deploy ...`."""
        return [sys.executable, "-m", self.module, *arguments]

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m deploy ...` with this system's environment."""
        return self.run(self.command(*arguments))

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run any command with this system's environment, from the root."""
        return subprocess.run(
            command, cwd=self.root, env=self.env, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line of bash with this system's environment, from the root."""
        return self.run(["bash", "-c", command])

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `python -m deploy ...` without waiting for it."""
        return subprocess.Popen(
            self.command(*arguments), cwd=self.root, env=self.env, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def up(self) -> None:
        done = self.deploy("up")
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()

    def down(self) -> None:
        done = self.deploy("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def close(self) -> None:
        """Stop all of it from this process, which is faster than `down`."""
        self.supervisor.stop()
        self._guard.cancel()

    def _stop_at_exit(self) -> Guard:
        pid_file = shlex.quote(str(self.run_dir / "supervisord.pid"))
        folder, down = shlex.quote(str(self.root)), shlex.join(self.command("down"))
        return Guard(f"cd {folder} && [ -e {pid_file} ] && {down}", self.env)

    def pids(self) -> dict[str, int]:
        """The process ids of the services that run."""
        return {name: process.pid for name, process in self.supervisor.processes().items()}

    def process(self, service: str) -> Process:
        """The state of a service, as the process manager reports it."""
        return self.supervisor.processes()[service]

    def pid(self, service: str) -> int:
        """The process id of a service; 0 if it does not run."""
        return self.process(service).pid

    def log(self, service: str) -> str:
        """The whole log of a service."""
        with contextlib.suppress(FileNotFoundError):
            return self.supervisor.log(service).read_text(errors="replace")
        return ""

    def logs(self) -> str:
        """The ends of all logs, for a test that failed."""
        names = ("supervisord", *self.ports)
        return "\n".join(f"--- {name}\n{self.log(name)[-4000:]}" for name in names)


class SmallSystem(System):
    """A router and a stand-in for the hf service, which start in a second."""

    module = "tests.support.small_deploy"
    services = small_services()


@contextlib.contextmanager
def refusing(count: int = 1) -> Iterator[list[str]]:
    """Yield addresses that refuse connections until the block ends.

    Their ports are bound but nothing listens. The system could give an unbound port to the
    next server, such as the router under test, which would then call itself.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        yield [f"127.0.0.1:{bound.getsockname()[1]}" for bound in sockets]


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on, and that no other test run gets meanwhile."""
    return list(itertools.islice(filter(_reserve, _candidates), count))


def _candidate_ports() -> Iterator[int]:
    """Yield the ports below those that the kernel gives to outgoing connections.

    The start is random, so that test runs at the same time seldom try the same port.
    """
    first, end = 10_000, 32_768
    with contextlib.suppress(FileNotFoundError):  # Linux only
        ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        end = max(int(ephemeral[0]), first + 1_000)
    start = random.SystemRandom().randrange(first, end)
    return itertools.cycle((*range(start, end), *range(first, start)))


_candidates = _candidate_ports()
#: Held until this process ends.
_reservations: list[socket.socket] = []


def _reserve(port: int) -> bool:
    """Reserve a port for this process; False if it is in use or reserved."""
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    if sys.platform == "linux":
        # An abstract socket: its name is free again when this process ends.
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0arena-llm-test-port-{port}")
        except OSError:
            reservation.close()
            return False
        _reservations.append(reservation)
    return True
