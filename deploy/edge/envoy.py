"""The process of Envoy: its files, its start, its administration, its end."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: prctl(2): the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1
#: Seconds until Envoy must have applied a change.
_APPLY_SECONDS = 10.0
#: Seconds that running calls have to end, by default as many as in the services.
_GRACE = 30.0
_SOCKET = "admin.sock"
_VERSION = "version_text"
#: Envoy's statistics that show which version of a file it uses. For files of endpoints, the name
#: of the file is also the name of the statistic.
_STATISTICS = {
    "clusters": "cluster_manager.cds",
    "listeners": "listener_manager.lds",
    "routes": "http.edge.rds.edge",
}


class EnvoyError(Exception):
    """Why Envoy cannot be started, or has not done what it was asked to."""


def find_envoy() -> Path:
    """Return the path of Envoy. Raises EnvoyError."""
    found = importlib.util.find_spec("envoy")
    if found is None or not found.origin:
        raise EnvoyError("Envoy is not installed: make setup WITH=edge")
    return Path(found.origin).parent / "_bin" / "envoy"


class Envoy:
    """One process. folder: of its files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._versions: dict[str, int] = {}
        self._written: dict[str, Any] = {}

    def write_bootstrap(self, bootstrap: Mapping[str, Any]) -> None:
        """Write what Envoy reads once."""
        self._write("bootstrap", bootstrap)

    def write(self, resources: Mapping[str, list[dict[str, Any]]]) -> bool:
        """Replace files of resources; Envoy follows them. Returns whether any has changed."""
        changed = {name: r for name, r in resources.items() if self._written.get(name) != r}
        for name, found in changed.items():
            version = self._versions[name] = self._versions.get(name, 0) + 1
            self._write(name, {"version_info": str(version), "resources": found})
            self._written[name] = found
        return bool(changed)

    def _write(self, name: str, content: object) -> None:
        path = self._folder / f"{name}.json"
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(content))
        new.replace(path)

    def start(self) -> None:
        """Start Envoy; it ends with this process, even if that is killed. Raises EnvoyError."""
        (self._folder / _SOCKET).unlink(missing_ok=True)
        command = [str(find_envoy()), "--config-path", "bootstrap.json", "--disable-hot-restart"]
        command += ["--log-level", "warning", "--log-format", "level=%l event=envoy text=%j"]
        self._process = subprocess.Popen(  # noqa: S603
            [*command, "--concurrency", str(os.cpu_count() or 1)],
            cwd=self._folder,
            preexec_fn=_die_with_parent,
        )

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return None if self._process is None else self._process.poll()

    def wait_applied(self) -> None:
        """Wait until Envoy uses the files that were written. Raises EnvoyError."""
        give_up = time.monotonic() + _APPLY_SECONDS
        wanted = {_STATISTICS.get(name, name): v for name, v in self._versions.items()}
        wanted.pop("secrets", None)
        while wanted.items() - self._find_versions().items():
            if self.status is not None:
                raise EnvoyError(f"Envoy has ended with {self.status}")
            if time.monotonic() > give_up:
                raise EnvoyError("Envoy has not applied its configuration: see its log")
            time.sleep(0.02)

    def _find_versions(self) -> dict[str, int]:
        """The versions that Envoy uses, by the names of its statistics."""
        text = ""
        with contextlib.suppress(OSError, http.client.HTTPException):
            text = self._ask("GET", f"/stats?type=TextReadouts&filter={_VERSION}$").decode()
        pairs = (line.split(f".{_VERSION}: ") for line in text.splitlines() if _VERSION in line)
        return {name: int(value.strip('"') or 0) for name, value in pairs}

    def stop(self, grace: float = _GRACE) -> None:
        """End Envoy after its running calls, which have `grace` seconds. It takes no new calls."""
        if self._process is None or self.status is not None:
            return
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._ask("POST", "/healthcheck/fail")  # connections are asked to end
            self._ask("POST", "/drain_listeners")
            give_up = time.monotonic() + grace
            while self._count_calls() and time.monotonic() < give_up and self.status is None:
                time.sleep(0.05)
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def _count_calls(self) -> int:
        name = "http.edge.downstream_rq_active"
        text = self._ask("GET", f"/stats?filter=^{name}$")
        return int(text.rpartition(b":")[2] or 0)

    def _ask(self, method: str, path: str) -> bytes:
        connection = http.client.HTTPConnection("envoy", timeout=5)
        try:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(5)
            with contextlib.chdir(self._folder):  # the whole path can be too long for a socket
                connection.sock.connect(_SOCKET)
            connection.request(method, path)
            return connection.getresponse().read()
        finally:
            connection.close()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
