"""A day of an operator, in a minute: a tournament continues while everything around it changes.

Two replicas of a hosted service stand behind a router, all with TLS, tokens and traces. While the
games are played, certificates are renewed, the router's configuration is reloaded, the provider is
down for a while, and one replica is killed.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from arena_llm.tls import VARIABLES
from bench.provider import some_action
from deploy.certificates import SERVICE_NAME, make_certificates
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess
from tests.support.providers import PROVIDERS
from tests.support.traces import Receiver, attributes, receiving
from tests.support.upstreams.openrouter import OpenRouterUpstream
from tests.support.upstreams.server import Call, Fault, Reply, Step
from tests.support.waiting import eventually

TOKEN = "a-token-of-the-lab"  # noqa: S105 - not a real one
EXPERIMENT = {
    "name": "operation",
    "games": ["tic_tac_toe"],
    "models": ["openrouter_a/schema", "openrouter_a/plain"],
    "episodes": 12,
    "episodes_in_flight": 4,
    "max_tokens": 100,
}
SPENT = "SELECT sum(cost_picousd), sum(unpriced), sum(unpriced_picousd) FROM runs"
#: Of one answer, in 10^-12 dollars.
COST = 1_234_567


class Invoice:
    """A provider that plays legal moves and writes down what it bills, by request."""

    def __init__(self) -> None:
        self.down = False
        self.refused = 0
        self.lines: defaultdict[str, int] = defaultdict(int)

    def answer(self, call: Call) -> Step:
        if self.down:
            self.refused += 1
            return Fault(503, "planned maintenance")
        headers = {name.lower(): value for name, value in call.headers.items()}
        self.lines[headers["x-client-request-id"]] += COST
        text = json.dumps({"reasoning": "", "action": some_action(call.body["messages"])})
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "cost": f"{COST}e-12"}
        return Reply(text, fields={"usage": usage}, delay=0.02)

    @property
    def answers(self) -> int:
        return len(self.lines)


class System:
    """The router and two replicas of the openrouter service, as processes in one folder."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.certs = folder / "certs"
        make_certificates(self.certs, [])
        self.target, *replicas = (f"127.0.0.1:{port}" for port in free_ports(3))
        files = {
            "certificate": str(self.certs / "server.crt"),
            "key": str(self.certs / "server.key"),
        }
        self._own = {"ca": str(self.certs / "ca.crt")} | {
            field: path.replace("server", "client") for field, path in files.items()
        }
        hashed = sha256(TOKEN.encode()).hexdigest()
        self._write("tokens.yaml", {"tokens": {"lab": {"sha256": hashed}}})
        route = {"targets": replicas, "tls": {**self._own, "server_name": SERVICE_NAME}}
        self.router_config: dict[str, Any] = {
            "listen": self.target,
            "tokens": str(folder / "tokens.yaml"),
            "usage": str(folder / "usage.sqlite"),
            "tls": files,
            "routes": {"openrouter_": route},
        }
        self.services = []
        for number, address in enumerate(replicas):
            config = {
                "listen": address,
                "base_url": url,
                "models": [],
                "backoff_seconds": 0.05,
                "journal": str(folder / f"journal-{number}"),
                "tls": {**files, "client_ca": self._own["ca"]},
            }
            path = self._write(f"openrouter-{number}.yaml", config)
            self.services.append(
                ServiceProcess(address, "-m", "services.openrouter", "--config", str(path))
            )
        self.reload()
        path = folder / "router.yaml"
        self.router = ServiceProcess(self.target, "-m", "router", "--config", str(path))

    def reload(self, **changes: Any) -> None:
        """Write the router's configuration, which a running one reads within a second."""
        self.router_config |= changes
        self._write("router.yaml", self.router_config)

    def _write(self, name: str, content: Any) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(content))  # JSON is YAML
        return path

    @property
    def environment(self) -> dict[str, str]:
        """What a caller sets."""
        own = {VARIABLES[field]: path for field, path in self._own.items()}
        return {**own, "ARENA_LLM_TOKEN": TOKEN, "ARENA_LLM_TARGET": self.target}


@asynccontextmanager
async def running(
    folder: Path, invoice: Invoice, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[System, Receiver]]:
    monkeypatch.setenv("OPENROUTER_API_KEY", PROVIDERS["openrouter"].key)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(OpenRouterUpstream())
        upstream.default = invoice.answer
        receiver, environment = stack.enter_context(receiving())
        system = System(folder, upstream.url)
        for name, value in {**environment, **system.environment}.items():
            monkeypatch.setenv(name, value)
        for process in (*system.services, system.router):
            await asyncio.to_thread(process.start)
            stack.callback(process.__exit__)
        yield system, receiver


async def test_a_tournament_continues_while_everything_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = Invoice()
    results = tmp_path / "results.sqlite"
    config = tmp_path / "experiment.yaml"
    config.write_text(json.dumps(EXPERIMENT))
    command = ("-m", "arena.cli", "run", "--config", config, "--results", results)
    async with running(tmp_path, invoice, monkeypatch) as (system, receiver):
        arena = await asyncio.create_subprocess_exec(
            *(sys.executable, *map(str, command)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

        async def further(answers: int) -> None:
            """Wait until so many more moves were answered, which shows that the games continue."""
            enough = invoice.answers + answers
            await eventually(lambda: invoice.answers >= enough)

        await further(10)
        make_certificates(system.certs, [])
        system.reload(ask_timeout_seconds=1.5)
        await eventually(lambda: "configuration reloaded" in system.router.log())
        await further(10)
        invoice.down = True
        await eventually(lambda: invoice.refused >= 3)
        invoice.down = False
        await further(10)
        system.services[0].kill()
        await further(10)
        written, _ = await arena.communicate()
        output = written.decode()
        assert arena.returncode == 0, output
        assert "24 episodes: 24 finished" in output

        # The bill: what is not known is at most what the killed replica had in flight.
        with closing(sqlite3.connect(results)) as connection:
            known, unknown, at_most = connection.execute(SPENT).fetchone()
        billed = sum(invoice.lines.values())
        assert known <= billed <= known + at_most, output
        assert billed - known <= unknown * COST
        assert unknown <= EXPERIMENT["episodes_in_flight"], output
        # Nothing was generated twice but what the killed replica has lost.
        assert set(invoice.lines.values()) == {COST}

        await eventually(lambda: find_traces(receiver))
        [*_, trace] = find_traces(receiver)
        by_service = {who: span for who, span in trace if span.name == "Generate"}
        assert attributes(by_service["arena-llm-router"])["arena.ply"].isdigit()
        assert "arena.game" in attributes(by_service["arena-llm-openrouter"])
        assert any(span.name == "provider request" for _, span in trace)
        sent = "".join(str(span) for _, span in receiver.spans)
        for secret in (TOKEN, PROVIDERS["openrouter"].key, "Legal actions"):
            assert secret not in sent
            assert secret not in system.router.log()


def find_traces(receiver: Receiver) -> list[list[tuple[str, Any]]]:
    """The traces of moves that have spans of every part."""
    traces = defaultdict(list)
    for who, span in receiver.spans:
        traces[span.trace_id].append((who, span))
    parts = {"arena-llm-client", "arena-llm-router", "arena-llm-openrouter"}
    return [trace for trace in traces.values() if parts <= {who for who, _ in trace}]
