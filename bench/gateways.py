"""Other gateways beside this system: `python -m bench.gateways [NAME...]`.

One game process with ten calls in flight uses the official client through each gateway. It takes
turns with the official client without a gateway, and with this system's client through router and
service. Where h2load is installed, it also calls the gateways and this system. The upstream answers
immediately.

Each gateway is installed in its own environment, in a temporary folder. If one cannot be installed
or started, the reason is printed. With names of gateways it writes nothing.
"""

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from bench import h2load, harness, openrouter
from bench.goals import Goal
from bench.latency import BODY, METHOD, REQUEST

ROUNDS = 3
SECONDS = 2.0
#: The installer that `make setup` uses.
UV = Path(__file__).parent.parent / ".venv-uv/bin/uv"
#: Seconds to install a gateway, and until it answers.
INSTALL, START = 300, 90
_KEY = f"sk-{secrets.token_hex(16)}"  # the LiteLLM proxy does not start without one

#: Keeps gateways from sending anything except the calls.
_QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "NODE_ENV": "production",
    "NO_PROXY": "127.0.0.1",
}
#: Portkey's server has no option for its address and would listen on all of them.
_LOOPBACK = """data:text/javascript,import net from "node:net";
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, host, ...rest) {
  return listen.call(this, port, "127.0.0.1", ...rest);
};""".replace("\n", " ")


GOALS = (
    Goal("calls/s of the official client directly", ("games", "arena_llm", "of_no_gateway"),
         ">=", 2.75, "x"),
    Goal("calls/s of vllm-router, with the same generator in C",
         ("c_generator", "arena_llm", "of_vllm-router"), ">=", 0.35, "x"),
)  # fmt: skip


class NotMeasured(Exception):
    """Why a gateway has no figures."""


@dataclass(frozen=True)
class Gateway:
    """A gateway of a package index.

    package: with its version; an npm package begins with "@". command: from its folder, the port
    and the upstream's URL. headers: that its callers send.
    """

    package: str
    command: Callable[[Path, int, str], Sequence[str]]
    headers: Callable[[str], Mapping[str, str]] = field(default=lambda _: {})


def _litellm(folder: Path, port: int, upstream: str) -> Sequence[str]:
    params = {"model": "openai/b", "api_base": upstream, "api_key": "sk-none"}
    config = {
        "model_list": [{"model_name": "a/b", "litellm_params": params}],
        "general_settings": {"master_key": _KEY},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    options = ["--config", f"{folder}/config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    return [f"{folder}/env/bin/litellm", *options]


def _portkey(folder: Path, port: int, upstream: str) -> Sequence[str]:
    script = f"{folder}/env/node_modules/@portkey-ai/gateway/build/start-server.js"
    return ["node", "--import", _LOOPBACK, script, f"--port={port}", "--headless"]


def _rust_router(name: str, *options: str) -> Callable[[Path, int, str], Sequence[str]]:
    """The command of a router that adds /v1 to the upstream's address and copies the answer."""

    def command(folder: Path, port: int, upstream: str) -> Sequence[str]:
        url = upstream.partition("/api")[0]
        metrics = harness.free_address().rpartition(":")[2]
        own = ["--host", "127.0.0.1", "--port", str(port), "--worker-urls", url]
        quiet = ["--prometheus-host", "127.0.0.1", "--prometheus-port", metrics]
        return [
            *(f"{folder}/env/bin/{name}", *options, *own, *quiet),
            *("--policy", "round_robin", "--log-level", "error"),
        ]

    return command


GATEWAYS: Mapping[str, Gateway] = {
    # The version of the litellm service. 1.82.7, 1.82.8 and 1.107.0 were malware.
    "litellm": Gateway(
        "litellm[proxy]==1.106.2", _litellm, lambda _: {"Authorization": f"Bearer {_KEY}"}
    ),
    "portkey": Gateway(
        "@portkey-ai/gateway@1.15.2",
        _portkey,
        lambda url: {"x-portkey-provider": "openai", "x-portkey-custom-host": url},
    ),
    "vllm-router": Gateway("vllm-router==0.1.17", _rust_router("vllm-router")),
    "smg": Gateway("smg==1.13.0", _rust_router("smg", "launch", "--backend", "openai")),
}


def install(name: str, folder: Path) -> None:
    """Install a gateway into `folder`/env. Raises NotMeasured."""
    package, target = GATEWAYS[name].package, folder / "env"
    if package.startswith("@"):
        if not (shutil.which("node") and shutil.which("npm")):
            raise NotMeasured("node and npm are not installed")
        # No install scripts: none of its packages needs one.
        npm = ["npm", "install", "--prefix", str(target), "--no-audit", "--no-fund"]
        commands = [[*npm, "--ignore-scripts", "--loglevel=error", package]]
    else:
        uv = str(UV)
        pip = [uv, "pip", "install", "--python", f"{target}/bin/python", "--only-binary=:all:"]
        commands = [[uv, "venv", "--python", sys.executable, str(target)], [*pip, package]]
    print(f"installing {package} in a temporary folder", flush=True)
    deadline = time.monotonic() + INSTALL
    try:
        for command in commands:
            seconds = deadline - time.monotonic()
            subprocess.run(command, check=True, timeout=seconds, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise NotMeasured(f"cannot install {package}: {error.filename} is missing") from None
    except (subprocess.TimeoutExpired, ValueError):
        raise NotMeasured(f"installing {package} takes longer than {INSTALL} s") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or error.stdout.strip() or "no message").splitlines()[-1]
        raise NotMeasured(f"cannot install {package}: {last}") from None


@dataclass
class RunningGateway:
    """How the callers reach the upstream. pid: of the gateway."""

    kind: str  # of bench.openrouter
    target: str
    headers: Mapping[str, str]
    pid: int
    ready_seconds: float

    def play(self) -> harness.Run:
        lines = "\n".join(f"{name}: {value}" for name, value in self.headers.items())
        env = {"OPENAI_CUSTOM_HEADERS": lines, "NO_PROXY": "127.0.0.1"}
        return openrouter.play_game(self.kind, self.target, env=env)

    def load(self) -> harness.Run:
        url = f"{self.target}/chat/completions"
        headers = {**h2load.JSON, **self.headers}
        return h2load.load(url, BODY, headers, openrouter.CALLERS, SECONDS)


def start(stack: ExitStack, name: str, folder: Path, upstream: str) -> RunningGateway:
    """Start an installed gateway, and wait for its first answer. Raises NotMeasured."""
    gateway = GATEWAYS[name]
    port = int(harness.free_address().rpartition(":")[2])
    begun = time.perf_counter()
    command = gateway.command(folder, port, upstream)
    running = stack.enter_context(_group(command, folder / "log"))
    headers = gateway.headers(upstream)
    way = RunningGateway("openai", f"http://127.0.0.1:{port}/v1", headers, running.pid, 0)
    problem: object = "it ended"
    while running.poll() is None and time.perf_counter() < begun + START:
        try:
            answer = httpx.post(
                f"{way.target}/chat/completions",
                content=BODY,
                headers={**h2load.JSON, **headers},
                timeout=10,
                trust_env=False,
            )
            assert answer.raise_for_status().json()["choices"]
        except httpx.HTTPError as error:
            problem = error
            time.sleep(0.1)
            continue
        way.ready_seconds = time.perf_counter() - begun
        return way
    lines = (folder / "log").read_text(errors="replace").strip().splitlines()
    raise NotMeasured(f"no answer within {START} s: {problem}; its log ends: {lines[-1:]}")


@contextlib.contextmanager
def _group(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process and all that it starts, ended together."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **_QUIET},
            start_new_session=True,
        )  # fmt: skip
        try:
            yield running
        finally:
            for signum in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(running.pid, signum)
                    running.wait(timeout=10)


def _measure(
    ways: Mapping[str, Callable[[], harness.Run]], pids: Mapping[str, int], base: str
) -> dict[str, dict[str, float]]:
    runs = harness.take_turns(ways, ROUNDS, pids)
    figures = {}
    for way, rounds in runs.items():
        row = harness.figures(rounds)
        figures[way] = {
            f"of_{base.replace(' ', '_')}": harness.ratio(
                harness.rates(rounds), harness.rates(runs[base])
            ),
            "calls_per_s": row["calls_per_s"],
            "p50_ms": row["p50_ms"],
            "p99_ms": row["p99_ms"],
            # That of the process on the way alone; the others stay up, and idle.
            "gateway_cpu_ms": sum(
                row[f"{name}_cpu_ms"] for name in pids if name == way or (way == "arena_llm"
                and name in ("router", "service"))
            ),
        }  # fmt: skip
    return figures


def run(names: Sequence[str]) -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        system, url = stack.enter_context(openrouter.fleet())
        gateways: dict[str, RunningGateway] = {}
        for name in names:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            try:
                install(name, folder)
                gateways[name] = start(stack, name, folder, url)
            except NotMeasured as error:
                missing[name] = str(error)
        pids = {**system.pids, **{name: way.pid for name, way in gateways.items()}}
        games = {
            "no gateway": partial(openrouter.play_game, "openai", url),
            "arena_llm": partial(openrouter.play_game, "arena", system.target),
            **{name: way.play for name, way in gateways.items()},
        }
        results: dict[str, Any] = {"games": _measure(games, pids, "no gateway")}
        if h2load.is_installed():
            callers = (openrouter.CALLERS, SECONDS)
            loads = {
                "no gateway": partial(
                    h2load.load, f"{url}/chat/completions", BODY, h2load.JSON, *callers
                ),
                "arena_llm": partial(
                    h2load.load,
                    f"http://{system.target}/{METHOD}",
                    REQUEST,
                    h2load.GRPC,
                    *callers,
                    connections=1,
                ),
                **{name: way.load for name, way in gateways.items()},
            }
            base = "vllm-router" if "vllm-router" in gateways else "no gateway"
            results["c_generator"] = _measure(loads, pids, base)
        results["start"] = {
            name: {"ready_s": way.ready_seconds, "rss_mb": harness.rss_mb(way.pid)}
            for name, way in gateways.items()
        }
    return {**results, "not_measured": missing}


def main() -> None:
    """Print the tables and write the JSON."""
    names = sys.argv[1:] or list(GATEWAYS)
    for unknown in set(names) - set(GATEWAYS):
        sys.exit(f"no gateway {unknown}; there are {', '.join(GATEWAYS)}")
    # Ended from outside, too, this ends the processes that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = run(names)
    callers = openrouter.CALLERS
    harness.print_ways(f"{callers} calls in flight from one process", results["games"])
    if "c_generator" in results:
        harness.print_ways(f"{callers} callers of a generator in C", results["c_generator"])
    if results["start"]:
        harness.print_ways("gateways", results["start"])
    for name, reason in results["not_measured"].items():
        print(f"{name}: NOT MEASURED: {reason}")
    if not sys.argv[1:]:
        harness.write_results("gateways", GOALS, results)


if __name__ == "__main__":
    main()
