"""Runs the containers of rendered manifests as processes, with only what they declare.

Each has a root of its own, which is read-only: the system's folders, /app with the environment that
its Dockerfile builds (tests/support/images.py), and the volumes at their places. Its variables are
those of its image and its manifest, and it is no user of this system if root runs the tests. All
containers share one network, as one pod per name.

`unshare --net --mount` must surround this process; `outside` returns that command.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.services import ROOT
from tests.support.images import VENV, image_name, read_dockerfile

Document = Mapping[str, Any]

#: Folders of the system that a container sees. The rest of its root is its own.
_SYSTEM = ("bin", "lib", "lib64", "sbin", "usr", "opt")
_DEVICES = ("null", "zero", "full", "random", "urandom")
#: The files of /etc that a container of Debian's image also has.
_ETC = ("ssl", "passwd", "group", "nsswitch.conf", "ld.so.cache", "alternatives", "localtime")


def outside() -> list[str]:
    """The command that runs another one in a network and a file system of its own."""
    return ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["-Ur"])]


def why_not() -> str:
    """Why this system cannot make such a place; empty if it can."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "no unshare, or no ip: apt-get install util-linux iproute2"
    done = subprocess.run([*outside(), "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


class Container:
    """One container. folder: of its root and its volumes. venv: the environment of its image.

    volumes: the files of each ConfigMap and Secret. The containers of a pod share a folder, and so
    its emptyDir volumes.
    """

    def __init__(
        self,
        pod: Document,
        container: Document,
        folder: Path,
        venv: Path,
        volumes: Mapping[str, Mapping[str, str]],
        nameserver: str,
    ) -> None:
        self.container = container
        self.name: str = container["name"]
        self._folder = folder
        self._venv = venv
        self._volumes = {volume["name"]: volume for volume in pod["volumes"]}
        self._files = volumes
        self._nameserver = nameserver
        #: Only root can become another user.
        self.user: int = pod["securityContext"]["runAsUser"] if _is_root() else 0
        self.log = folder / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment: that of its image, then its own."""
        _, text = read_dockerfile(image_name(self.container["image"]))
        environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/"}
        for line in re.findall(r"^ENV (.*)$", text, re.MULTILINE):
            for name, value in re.findall(r"(\w+)=(\S+)", line):
                environ[name] = value.replace("${PATH}", environ["PATH"])
        for variable in self.container["env"]:
            if "value" in variable:
                environ[variable["name"]] = variable["value"]
            else:
                assert variable["valueFrom"]["secretKeyRef"]["optional"], variable
        for source in self.container.get("envFrom", ()):
            assert source["secretRef"]["optional"], source
        return environ

    def start(self) -> None:
        """Start its command."""
        place = [str(self._make_root()), str(self.user), self.container["workingDir"]]
        enter = [sys.executable, "-m", "tests.support.pods", *place]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*enter, *self.container["command"]],
                env={**self.environment, "PYTHONPATH": str(ROOT)},
                stdout=log, stderr=log,
            )  # fmt: skip

    def run(self) -> None:
        """Run its command to its end."""
        self.start()
        assert self.process is not None
        assert self.process.wait(120) == 0, self.log.read_text()

    def probe(self, kind: str) -> bool:
        """Ask what the kubelet asks."""
        probe = self.container[kind]
        if "httpGet" in probe:
            ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
            get = probe["httpGet"]
            url = f"http://127.0.0.1:{ports[get['port']]}{get['path']}"
            try:
                with urllib.request.urlopen(url, timeout=probe.get("timeoutSeconds", 1)) as answer:
                    return bool(200 <= answer.status < 400)
            except OSError:
                return False
        with grpc.insecure_channel(f"127.0.0.1:{probe['grpc']['port']}") as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", "")),
                    timeout=probe.get("timeoutSeconds", 1),
                )
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Wait for a condition; fail with the log."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} has ended\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"{self.name}\n{self.log.read_text()}"
            time.sleep(0.05)

    def _make_root(self) -> Path:
        """Mount its root: only its volumes can be written."""
        root = self._folder / f"{self.name}-root"
        root.mkdir()
        _mount("-t", "tmpfs", "-o", "mode=755", "none", root)
        for name in _SYSTEM:
            if Path("/", name).is_symlink():
                (root / name).symlink_to(os.readlink(f"/{name}"))
            elif Path("/", name).exists():
                _bind(Path("/", name), root / name)
        for name in _DEVICES:
            _bind(Path("/dev", name), root / "dev" / name, "")
        (root / "dev/shm").mkdir()
        _mount("-t", "tmpfs", "none", root / "dev/shm")
        _bind(Path("/proc"), root / "proc", "")
        _bind(Path("/sys"), root / "sys")
        for name in _ETC:
            if Path("/etc", name).exists():
                _bind(Path("/etc", name), root / "etc" / name)
        (root / "etc/resolv.conf").write_text(f"nameserver {self._nameserver}\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        _bind(self._venv, root / VENV.relative_to("/"))
        for mount in self.container["volumeMounts"]:
            self._mount_volume(mount, root / mount["mountPath"].lstrip("/"))
        python = Path(sys.base_prefix).resolve()
        if not python.is_relative_to("/usr"):
            _bind(python, root / python.relative_to("/"))
        _mount("-o", "remount,ro", root)
        return root

    def _mount_volume(self, mount: Document, place: Path) -> None:
        volume = self._volumes[mount["name"]]
        source = self._folder / "volumes" / mount["name"]
        source.mkdir(parents=True, exist_ok=True)
        if "emptyDir" in volume:
            _bind(source, place, "")
            if self.user:
                os.chown(source, self.user, self.user)
            return
        name = volume.get("configMap", {}).get("name") or volume["secret"]["secretName"]
        for file, text in self._files[name].items():
            (source / file).write_text(text)
        _bind(source, place)


def _bind(source: Path, place: Path, options: str = "ro") -> None:
    if source.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    _mount("--bind", source, place)
    if options:
        _mount("-o", f"remount,bind,{options}", place)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def _is_root() -> bool:
    """Whether this is root of the system, not only of its own namespace."""
    return Path("/proc/self/uid_map").read_text().split()[2] != "1"


def _enter(root: str, user: str, folder: str, *command: str) -> None:
    """Become the command, in its root."""
    os.chroot(root)
    os.chdir(folder)
    if user != "0":
        os.setgroups([])
        os.setgid(int(user))
        os.setuid(int(user))
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    os.execvpe(command[0], command, environ)  # noqa: S606 - no shell


if __name__ == "__main__":
    _enter(*sys.argv[1:])
