"""A running system of real processes, on ports and in a folder of its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.services import ROOT, SERVICES
from deploy.supervisor import Process, Supervisor

#: What a test's system may not take over from the shell, or the make, that runs the tests.
_FOREIGN = ("ARENA_", "MAKE", "MFLAGS", "VLLM")
_KEPT = ("ARENA_CACHE_DIR",)


class System:
    """What `make up` starts, by the same code: `python -m deploy`."""

    def __init__(
        self, run_dir: Path, environ: Mapping[str, str] | None = None, root: Path = ROOT
    ) -> None:
        self.run_dir = run_dir
        #: Where its code is.
        self.root = root
        self.ports = dict(zip((s.name for s in SERVICES), free_ports(len(SERVICES)), strict=True))
        self.target = f"127.0.0.1:{self.ports['router']}"
        self.hf_target = f"127.0.0.1:{self.ports['hf']}"
        self.supervisor = Supervisor(run_dir)
        own = {
            name: value
            for name, value in os.environ.items()
            if name in _KEPT or not name.startswith(_FOREIGN)
        }
        #: For whatever is to work with this system: make, the CLI, the client.
        self.env = own | {
            "ARENA_RUN_DIR": str(run_dir),
            "ARENA_LLM_TARGET": self.target,
            **{s.variable: str(self.ports[s.name]) for s in SERVICES},
            **(environ or {}),
        }

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m deploy ...` against this system."""
        return self.run([sys.executable, "-m", "deploy", *arguments])

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run any command with this system's environment, from the root."""
        return subprocess.run(
            command, cwd=self.root, env=self.env, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def up(self) -> None:
        done = self.deploy("up")
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()

    def down(self) -> None:
        done = self.deploy("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def pids(self) -> dict[str, int]:
        """The processes of the services that run."""
        return {name: process.pid for name, process in self.supervisor.processes().items()}

    def process(self, service: str) -> Process:
        """What the process manager says of a service."""
        return self.supervisor.processes()[service]

    def pid(self, service: str) -> int:
        """The process of a service; 0 while it has none."""
        return self.process(service).pid

    def log(self, service: str) -> str:
        """All that a service has logged."""
        with contextlib.suppress(FileNotFoundError):
            return self.supervisor.log(service).read_text(errors="replace")
        return ""

    def logs(self) -> str:
        """The ends of all logs, for a test that failed."""
        names = ("supervisord", *self.ports)
        return "\n".join(f"--- {name}\n{self.log(name)[-4000:]}" for name in names)


@contextlib.contextmanager
def refusing(count: int = 1) -> Iterator[list[str]]:
    """Addresses that refuse connections for as long as the block lasts.

    Their ports are taken, without a listener: a port that were merely free could be given
    to the next server, such as the router under test, which would then call itself.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        yield [f"127.0.0.1:{held.getsockname()[1]}" for held in sockets]


def _quiet_ports() -> Iterator[int]:
    """Ports below those that the kernel gives to connections and to whoever wants any.

    From somewhere on, so that runs of the tests beside each other seldom meet.
    """
    first, end = 10_000, 32_768
    with contextlib.suppress(FileNotFoundError):  # it is Linux's
        kernels = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        end = max(int(kernels[0]), first + 1_000)
    start = random.SystemRandom().randrange(first, end)
    return itertools.cycle((*range(start, end), *range(first, start)))


_candidates = _quiet_ports()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on; none is given twice, nor to a connection meanwhile."""
    return list(itertools.islice(filter(_is_free, _candidates), count))


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
