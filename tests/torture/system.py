"""The tortured system: real processes on loopback, with TLS, tokens, journals and small bounds."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import aiohttp

from arena_llm import AsyncClient
from arena_llm.tls import Tls
from deploy.certificates import SERVICE_NAME, make_certificates
from deploy.services import ROOT
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess, listens
from tests.torture.money import Bill
from tests.torture.providers import PlannedProvider

#: Tokens by the names of their holders: calls by gRPC, by HTTP, and of the tournament.
TOKENS = {name: f"planted-token-of-{name}-0123456789" for name in ("lab", "door", "games")}

#: The models that are called, by provider. The first one of openrouter takes everything.
MODELS = {
    "openrouter": ("openrouter_a/all", "openrouter_a/plain"),
    "openai": ("litellm_openai/gpt-4o-mini",),
    "anthropic": ("litellm_anthropic/claude-sonnet-4-5",),
    "gemini": ("litellm_gemini/gemini-2.5-flash",),
}
HF_MODEL = "hf_smollm2-135m-instruct"
_EMBEDDED = ROOT / ".cache/models/smollm2-135m-instruct"

#: Bounds of the hosted services. Bad answers reach them within seconds, but good ones do not, even
#: though services, providers and callers share two cores.
BOUNDS: dict[str, Any] = {
    "backoff_seconds": 0.01,
    "max_backoff_seconds": 0.05,
    "timeout_seconds": 12,
    "first_byte_seconds": 6,
    "max_attempts": 3,
    # Most answers are bad here, so it would open and refuse the calls that must be right.
    "breaker": None,
    "max_retry_after_seconds": 0.5,
    "max_answer_bytes": 300_000,
    "max_stream_bytes": 400_000,
}
#: Kept replies would look like a leak for minutes.
_KEPT = {"request_id_seconds": 30, "request_id_bytes": 2 * 2**20}
#: Seconds that the gateway gives its callers.
GATEWAY_SECONDS = 2


class DoorProcess(ServiceProcess):
    """The gateway, which speaks HTTP."""

    def _serving(self) -> bool:
        return listens(self.address)


class System:
    """Two replicas of openrouter, litellm, hf if wanted, the router and the gateway.

    The connections from the router to the openrouter replicas are encrypted in both directions.
    """

    def __init__(self, folder: Path, *, hf: bool) -> None:
        self.folder = folder
        self.bill = Bill()
        self.providers = {name: PlannedProvider(name, self.bill) for name in MODELS}
        self.processes: dict[str, ServiceProcess] = {}
        self._metrics: dict[str, str] = {}
        self._configs: dict[str, dict[str, Any]] = {}
        self._has_hf = hf and _EMBEDDED.is_dir()

    @property
    def models(self) -> list[str]:
        """The hosted models."""
        return [model for models in MODELS.values() for model in models]

    @property
    def has_hf(self) -> bool:
        """Whether the hf service runs."""
        return self._has_hf

    def provider_of(self, model: str) -> PlannedProvider:
        """The provider of a hosted model."""
        return next(self.providers[name] for name, models in MODELS.items() if model in models)

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        await self._stack.__aenter__()
        for provider in self.providers.values():
            await provider.start(self._stack)
        self._configure()
        starting = [asyncio.to_thread(process.start) for process in self.processes.values()]
        await asyncio.gather(*starting)
        for process in self.processes.values():
            self._stack.callback(process.__exit__)
        self.client = AsyncClient(self.router, timeout=60, token=TOKENS["lab"])
        await self._stack.enter_async_context(self.client)
        self.http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60)
        )
        await self._stack.enter_async_context(self.http)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def _configure(self) -> None:
        count = 6 + self._has_hf
        ports = iter(free_ports(2 * count))
        self.certs = self.folder / "certs"
        make_certificates(self.certs, [])
        server, client = (
            {"certificate": f"{self.certs}/{who}.crt", "key": f"{self.certs}/{who}.key"}
            for who in ("server", "client")
        )
        ca = {"ca": f"{self.certs}/ca.crt"}
        own = {**ca, **client, "server_name": SERVICE_NAME}
        mutual = {**server, "client_ca": ca["ca"]}

        def add(name: str, module: str, config: dict[str, Any], **more: Any) -> str:
            address, metrics = (f"127.0.0.1:{next(ports)}" for _ in range(2))
            self._metrics[name] = metrics
            self.write(name, {"listen": address, "metrics": metrics, **config})
            kind = DoorProcess if name == "gateway" else ServiceProcess
            command = ("-m", module, "--config", str(self.path(name)))
            self.processes[name] = kind(address, *command, **more)
            return address

        openrouter = self.providers["openrouter"]
        replicas = [
            add(
                f"openrouter-{number}",
                "services.openrouter",
                {
                    **BOUNDS, **_KEPT, "models": [], "tls": mutual,
                    "base_url": openrouter.upstream.url,  # type: ignore[attr-defined]
                    "journal": str(self.folder / f"journal-{number}"),
                },
                tls=Tls(**own),
                env={"OPENROUTER_API_KEY": openrouter.provider.key},
            )
            for number in range(2)
        ]  # fmt: skip
        others = [self.providers[name] for name in ("openai", "anthropic", "gemini")]
        entries = [
            {"name": planned.provider.model, "api_base": planned.upstream.url}  # type: ignore[attr-defined]
            for planned in others
        ]
        journal = str(self.folder / "journal-litellm")
        litellm = add(
            "litellm",
            "services.litellm",
            {**BOUNDS, **_KEPT, "models": entries, "journal": journal},
            env={planned.provider.variable: planned.provider.key for planned in others},
        )
        routes: dict[str, Any] = {
            "openrouter_": {"targets": replicas, "tls": own},
            "litellm_": {"targets": [litellm]},
        }
        if self._has_hf:
            entry = {"name": HF_MODEL, "model_path": str(_EMBEDDED), "preload": True}
            config = {**_KEPT, "models": [{**entry, "prefix_cache_gb": 0.05}], "device": "cpu"}
            routes["hf_"] = {"targets": [add("hf", "services.hf", config)]}
        hashes = {n: {"sha256": sha256(t.encode()).hexdigest()} for n, t in TOKENS.items()}
        self.write("tokens", {"tokens": hashes})
        self.usage = self.folder / "usage.sqlite"
        self.router = add(
            "router",
            "router",
            {"tokens": str(self.path("tokens")), "usage": str(self.usage), "routes": routes},
            env={"ARENA_RUN_DIR": str(self.folder)},
        )
        times = dict.fromkeys(("head_seconds", "body_seconds", "write_seconds"), GATEWAY_SECONDS)
        config = {"router": self.router, "require_token": True, **times}
        self.gateway = add("gateway", "gateway", {**config, "timeout_seconds": 60})
        self.url = f"http://{self.gateway}/v1"

    def path(self, name: str) -> Path:
        """The configuration file of a process."""
        return self.folder / f"{name}.yaml"

    def write(self, name: str, config: Mapping[str, Any]) -> None:
        """Replace a configuration file, as an editor does. It is JSON, which is also YAML."""
        self._configs[name] = dict(config)
        self.write_text(name, json.dumps(config))

    def write_text(self, name: str, text: str) -> None:
        """Write a text that need not be a configuration."""
        new = self.path(name).with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.path(name))

    def change(self, name: str, **changes: Any) -> None:
        """Change a configuration, which its process reads again within a second."""
        self.write(name, self._configs[name] | changes)

    async def busy(self) -> dict[str, float]:
        """Calls in flight or waiting, by process; empty if the system is idle."""
        found: dict[str, float] = {}
        for name, address in self._metrics.items():
            async with self.http.get(f"http://{address}/metrics") as answer:
                text = await answer.text()
            if count := sum(_read_gauges(text)):
                found[name] = count
        return found

    def log(self, name: str) -> str:
        """What a process has logged."""
        return self.processes[name].log()


def _read_gauges(text: str) -> Iterator[float]:
    names = ("arena_llm_calls_in_flight", "arena_llm_calls_waiting", "arena_llm_calls_held")
    for line in text.splitlines():
        if line.startswith(names):
            yield float(line.rpartition(" ")[2])
