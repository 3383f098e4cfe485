"""Running systems of real processes, each with its own ports and its own folder."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.managed import ManagedService
from deploy.services import ROOT, SERVICES
from deploy.supervisor import Process, Supervisor
from tests.support.guard import Guard
from tests.support.ports import free_ports
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
        *ports, page = free_ports(len(self.services) + 1)
        self.ports = dict(zip((s.name for s in self.services), ports, strict=True))
        self.page = f"http://127.0.0.1:{page}/"
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
            **{s.metrics_variable: "0" for s in self.services},
            "ARENA_ROUTER_METRICS_PORT": str(page),
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
