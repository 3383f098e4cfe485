"""Services as processes: start them, wait until they serve, kill them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from arena_llm.tls import Tls, find_tls, open_channel
from tests.support.guard import kill_at_exit


class ServiceProcess:
    """`python *arguments`, a gRPC service at an address. It is killed when the block ends.

    python: the interpreter. patience: seconds until it must serve. redirect: a redirection of
    the shell for its output, such as `2>&-`; by default the output goes to a file. tls: to ask for
    its health; by default what the environment says. env: more variables of its environment.
    """

    def __init__(
        self,
        address: str,
        *arguments: str,
        python: Path = Path(sys.executable),
        patience: float = 120,
        redirect: str = "",
        tls: Tls | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.address = address
        self._tls = tls
        self._env = None if env is None else os.environ | env
        self._command = ["sh", "-c", f'exec "$@" {redirect}', "sh", str(python), *arguments]
        self._patience = patience
        self._log = tempfile.NamedTemporaryFile(suffix=".log")  # noqa: SIM115 - closed in __exit__

    def start(self) -> Self:
        """Start it (it may have been started before); return when health is SERVING."""
        self.process = subprocess.Popen(
            self._command, stdout=self._log, stderr=self._log, env=self._env
        )
        self._guard = kill_at_exit(self.process.pid)
        deadline = time.monotonic() + self._patience
        while not self._serving():
            assert self.process.poll() is None, f"it ended before it served:\n{self.log()}"
            assert time.monotonic() < deadline, f"it does not serve:\n{self.log()}"
            time.sleep(0.02)
        return self

    def _serving(self) -> bool:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with open_channel(grpc, self.address, find_tls(self._tls), options) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=1
                )
            except grpc.RpcError:
                return False
        serving: bool = answer.status == health_pb2.HealthCheckResponse.SERVING
        return serving

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def kill(self) -> None:
        """Send SIGKILL, which also ends a stopped process; return when it has ended."""
        self._guard.cancel()
        self.process.kill()
        self.process.wait(timeout=30)

    def peak_memory(self) -> int:
        """The peak of its resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._log.close()


def listens(address: str) -> bool:
    """Whether something accepts connections at the address."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port))):
        return True
    return False


def scripted_process(
    address: str, name: str, says: str = "", redirect: str = "", *, quick_pings: bool = False
) -> ServiceProcess:
    """A PromptedBackend. Its reply to other prompts is `says`, by default its name.

    quick_pings: expect pings every second, as a router_process with quick_pings sends them.
    """
    command = ("-m", *_QUICK[quick_pings], "tests.support.scripted", address, name, says or name)
    return ServiceProcess(address, *command, redirect=redirect)


def router_process(
    address: str, config: Path, redirect: str = "", *, quick_pings: bool = False
) -> ServiceProcess:
    """The router with this configuration. quick_pings: notice a hanging backend after 5 s."""
    command = ("-m", *_QUICK[quick_pings], "router", "--config", str(config))
    return ServiceProcess(address, *command, redirect=redirect)


_QUICK = {False: (), True: ("tests.support.quick_pings",)}


def run_to_end(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `python *arguments` until it ends."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
    )
