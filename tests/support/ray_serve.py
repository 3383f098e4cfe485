"""The hf service on a Ray cluster of two raylets, with a small random model."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil
import yaml

from tests.support.local_models import SIZE, hf_models
from tests.support.ports import free_ports
from tests.support.tiny_models import make_checkpoint

MODEL = "hf_tiny"
#: The ingress, and the ports after it that Serve uses.
_PORTS = 6


class RayServe:
    """Use it as a context. address: of Serve's ingress."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        while (ports := free_ports(_PORTS)) != [*range(ports[0], ports[0] + _PORTS)]:
            pass
        self.address = f"127.0.0.1:{ports[0]}"
        # A free place for a replica on each node, and a third on one of them.
        service = {"max_replicas": 3, "calls_per_replica": 2, "cpus": 0.3}
        service |= {"up_seconds": 0.3, "down_seconds": 2}
        make_checkpoint(folder / "tiny", "llama", chat=True, **SIZE)
        models = hf_models(folder, folder / "tiny")[1:2]
        self._write("ray", {"listen": self.address, "services": {"hf": service}})
        self._write("hf_models", {"listen": "127.0.0.1:0", "device": "cpu", "models": models})
        self._environ = {
            **os.environ,
            "ARENA_CONFIG_DIR": str(folder),
            "ARENA_RUN_DIR": str(folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }

    def _write(self, name: str, content: object) -> None:
        (self._folder / f"{name}.yaml").write_text(yaml.safe_dump(content))

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._cluster = subprocess.Popen(
            [sys.executable, "-m", "tests.support.cluster"],
            env=self._environ,
            stdin=pipe,
            stdout=pipe,
            text=True,
        )
        try:
            self._ray = self._read()
            for _ in range(2):
                print("{}", file=self._cluster.stdin, flush=True)
                assert self._read()
            self.deploy("up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _read(self) -> str:
        return self._cluster.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the cluster. May be called again."""
        self._cluster.stdin.close()
        self._cluster.wait()
        self._cluster.stdout.close()

    def deploy(self, command: str) -> str:
        """Run a command of `python -m deploy.ray` for the cluster; returns what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy.ray", command, "--address", self._ray],
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def listening(self) -> list[tuple[str, int]]:
        """The addresses on which the processes of the cluster and of Serve listen."""
        found: list[tuple[str, int]] = []
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                for connection in process.net_connections("inet"):
                    if connection.status == psutil.CONN_LISTEN:
                        host, port = connection.laddr
                        found.append((host.removeprefix("::ffff:"), port))
        return found

    def _processes(self) -> list[psutil.Process]:
        return psutil.Process(self._cluster.pid).children(recursive=True)

    def replicas(self) -> list[psutil.Process]:
        """The processes of the replicas, also of those that start or stop."""
        found = []
        for process in self._processes():
            try:
                if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ServeReplica:"):
                    found.append(process)
            except psutil.NoSuchProcess:
                pass
        return found
