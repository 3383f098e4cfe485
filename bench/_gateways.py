"""The LiteLLM proxy and Portkey's gateway: their environments and their processes."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from bench import _util

CACHE = Path(os.environ.get("ARENA_CACHE_DIR") or ".cache").resolve() / "bench"

# The release that the litellm service uses as well; 1.82.7 and 1.82.8 were malware.
LITELLM = "litellm[proxy]==1.106.2"
PORTKEY = "@portkey-ai/gateway@1.15.2"
PINS = {"litellm": LITELLM, "portkey": PORTKEY}

# The proxy does not start without a key that is hard to guess.
_KEY = f"sk-{secrets.token_hex(16)}"

# A gateway asks nobody but the upstream and reports to nobody.
_QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "NODE_ENV": "production",
    "NO_PROXY": "127.0.0.1",
}
# Portkey's server has no option for its address and would listen on all of them.
_LOOPBACK = """data:text/javascript,import net from "node:net";
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, host, ...rest) {
  return listen.call(this, port, "127.0.0.1", ...rest);
};""".replace("\n", " ")


class NotMeasured(Exception):
    """Why a gateway has no figures."""


@dataclass
class Way:
    """How a game process calls, and what stands between it and the upstream."""

    kind: str  # of bench._callers
    target: str
    pids: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)  # seconds until ready, memory

    def processes(self) -> list[psutil.Process]:
        """The gateway's processes, its workers among them."""
        parents = [psutil.Process(pid) for pid in self.pids]
        return [p for parent in parents for p in (parent, *parent.children(recursive=True))]

    def cpu(self) -> float:
        """CPU seconds that the gateway has used."""
        return sum(_util.cpu_seconds(process.pid) for process in self.processes())

    def rss_mb(self) -> float:
        """Resident memory of all its processes; what they share counts for each."""
        return sum(_util.rss_mb(process.pid) for process in self.processes())


def set_up(name: str) -> Path:
    """The gateway's environment, made first where it is missing or of another release."""
    folder, pin = CACHE / name, PINS[name]
    stamp = folder / ".complete"
    if stamp.is_file() and stamp.read_text() == pin:
        return folder
    if name == "portkey" and not (shutil.which("node") and shutil.which("npm")):
        raise NotMeasured("node and npm are not installed")
    print(f"installing {pin} (once)", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if name == "portkey":
        # No package of it needs to run a script of its own to be installed.
        npm = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund"]
        commands = [[*npm, "--ignore-scripts", "--loglevel=error", pin]]
    else:
        pip = [f"{folder}/bin/python", "-m", "pip", "install", "-qq", pin]
        commands = [[sys.executable, "-m", "venv", str(folder)], pip]
    try:
        for command in commands:
            subprocess.run(command, check=True, timeout=900, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"installing {pin} takes longer than 15 minutes") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or error.stdout.strip() or "no message").splitlines()[-1]
        raise NotMeasured(f"cannot install {pin}: {last}") from None
    stamp.write_text(pin)
    return folder


@contextlib.contextmanager
def _group(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process and all that it starts, ended together; its log in the folder."""
    with open(folder / "log", "wb") as log:
        running = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **_QUIET}, start_new_session=True
        )
        try:
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(running.pid, signal.SIGTERM)
                running.wait(timeout=10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)  # workers that outlive their parent
            running.wait()


def _command(name: str, workers: int, port: int, upstream: str, folder: Path) -> list[str]:
    installed = CACHE / name
    if name == "portkey":
        script = f"{installed}/node_modules/@portkey-ai/gateway/build/start-server.js"
        return ["node", "--import", _LOOPBACK, script, f"--port={port}", "--headless"]
    params = {"model": "openai/b", "api_base": upstream, "api_key": "sk-none"}
    config = {
        "model_list": [{"model_name": "a/b", "litellm_params": params}],
        "general_settings": {"master_key": _KEY},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    command = [f"{installed}/bin/litellm", "--config", str(folder / "config.yaml")]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--num_workers", str(workers)]


def start(stack: ExitStack, name: str, workers: int, upstream: str) -> Way:
    """Start a gateway that is set up, wait for its first answer; raises NotMeasured."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    port = _util.free_port()
    command = _command(name, workers, port, upstream, folder)
    begun = time.perf_counter()
    running = stack.enter_context(_group(command, folder))
    way = Way("openai", f"http://127.0.0.1:{port}/v1", [running.pid])
    way.headers["Authorization"] = f"Bearer {_KEY}"
    if name == "portkey":
        way.headers |= {"x-portkey-provider": "openai", "x-portkey-custom-host": upstream}
    body = {"model": "a/b", "messages": [{"role": "user", "content": "Your move?"}]}
    why: object = "no answer"
    with httpx.Client(trust_env=False, headers=way.headers, timeout=30) as http:
        while running.poll() is None and time.perf_counter() < begun + 120:
            try:
                answer = http.post(f"{way.target}/chat/completions", json=body).raise_for_status()
            except httpx.HTTPError as error:
                why = error
                time.sleep(0.02)
                continue
            assert answer.json()["choices"]
            way.start = {"ready_s": time.perf_counter() - begun, "rss_mb": way.rss_mb()}
            return way
    log = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
    raise NotMeasured(f"did not start: {why}; its log ends: {' '.join(log)}")
