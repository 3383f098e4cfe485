"""`python -m tests.support.pod_scenario RENDERED IMAGES FOLDER`: a cluster without Kubernetes.

It runs the containers of a rendered autoscale overlay in the environments of IMAGES, and is its
name server, its kubelet and its KEDA: hf is started because the router's metrics say that a
call waits for it. It prints what a test compares. `tests.support.pods.outside` must surround it.

It deletes nothing: inside FOLDER are mounts of this system's own folders, until it has ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from arena_llm import ArenaError, AsyncClient
from tests.support.images import image_name
from tests.support.name_server import NameServer
from tests.support.pods import Container, Document

TOKEN = "a-token-of-this-test"  # noqa: S105 - no secret
HF_MODEL = "hf_smollm2-135m-instruct"
LOOPBACK = ("127.0.0.1",)


class Cluster:
    """The documents of the rendered overlay, and the containers that run."""

    def __init__(self, rendered: Path, images: Path, folder: Path) -> None:
        documents = list(yaml.safe_load_all(rendered.read_text()))
        self.pods = {
            document["metadata"]["name"]: document["spec"]["template"]["spec"]
            for document in documents
            if document["kind"] == "Deployment"
        }
        self._files = {
            d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"
        }
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        tokens = {"tokens": {"player": {"sha256": digest}}}
        self._files["router-tokens"] = {"tokens.yaml": yaml.safe_dump(tokens)}
        self._images = images
        self._folder = folder
        self.running: list[Container] = []

    def start(self, name: str) -> Container:
        """Start a pod; return its container after its probes have succeeded."""
        pod = self.pods[name]
        folder = self._folder / name
        folder.mkdir()
        for first in pod.get("initContainers", ()):
            self._make(pod, first, folder).run()
        container = self._make(pod, pod["containers"][0], folder)
        container.start()
        self.running.append(container)
        startup = pod["containers"][0]["startupProbe"]
        seconds = startup["periodSeconds"] * startup["failureThreshold"]
        container.wait_until(lambda: container.probe("startupProbe"), seconds)
        for kind in ("readinessProbe", "livenessProbe"):
            container.wait_until(lambda kind=kind: container.probe(kind))  # type: ignore[misc]
        return container

    def _make(self, pod: Document, container: Document, folder: Path) -> Container:
        venv = self._images / f"{image_name(container['image'])}-venv"
        return Container(pod, container, folder, venv, self._files, LOOPBACK[0])


def read_metric(port: int, name: str) -> str:
    """The lines of a metric."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return "\n".join(line for line in lines if line.startswith(name))


def describe(pid: int) -> tuple[int, list[str]]:
    """The user of a process, and the folders that it may write."""
    user = re.findall(r"^Uid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    root = os.readlink(f"/proc/{pid}/root")
    mounts = [line.split()[1:4] for line in Path("/proc/self/mounts").read_text().splitlines()]
    own = [(place.removeprefix(root), how) for place, _, how in mounts if place.startswith(root)]
    system = ("/dev", "/proc")
    rw = {place for place, how in own if how.startswith("rw") and not place.startswith(system)}
    return int(user[0]), sorted(rw)


async def play(cluster: Cluster, names: NameServer) -> dict[str, Any]:
    """Call through the router, while the services come."""
    seen: dict[str, Any] = {}
    addresses: dict[str, Any] = {}
    names.addresses = addresses
    first = ("router", "openrouter", "litellm", "gateway")
    for name in first:
        addresses[name] = LOOPBACK
    await asyncio.gather(*(asyncio.to_thread(cluster.start, name) for name in first))
    async with AsyncClient("127.0.0.1:50050", token=TOKEN) as llm:
        call = asyncio.ensure_future(
            llm.generate(HF_MODEL, "Your move?", choices=["0", "4"], timeout=300)
        )
        waits = 'arena_llm_calls_held{backend="hf"} 1.0'
        while waits not in await asyncio.to_thread(read_metric, 50150, "arena_llm_calls_held"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # a page of metrics cannot be awaited
        seen["held"] = not call.done()
        hf = await asyncio.to_thread(cluster.start, "hf")
        addresses["hf"] = LOOPBACK
        seen["reply"] = (await call).text
        seen["reasons"] = {}
        for model in ("openrouter_openai/gpt-4o-mini", "vllm_x"):
            try:
                await llm.generate(model, "Your move?", timeout=3)
            except ArenaError as error:
                seen["reasons"][model] = error.reason
    assert hf.process is not None
    seen["user"], seen["writable"] = describe(hf.process.pid)
    return seen


async def run(rendered: Path, images: Path, folder: Path) -> dict[str, Any]:
    """Play, then end every container as the kubelet does."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)  # noqa: ASYNC221
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)  # noqa: ASYNC221
    cluster = Cluster(rendered, images, folder)
    loop = asyncio.get_running_loop()
    _, names = await loop.create_datagram_endpoint(
        lambda: NameServer({}), local_addr=(LOOPBACK[0], 53)
    )
    try:
        seen = await play(cluster, names)
        for container in cluster.running:
            assert container.process is not None
            container.process.send_signal(signal.SIGTERM)
        seen["exits"] = [
            await asyncio.to_thread(c.process.wait, 60)  # type: ignore[union-attr]
            for c in cluster.running
        ]
    finally:
        for container in cluster.running:
            if container.process is not None:
                container.process.kill()
    return seen


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(run(*map(Path, sys.argv[1:])))))
