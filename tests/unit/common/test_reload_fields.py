"""Every key of every configuration: a reload applies it, or says that it needs a restart."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router.config import RouterConfig
from services.common.config import ServiceConfig, load_config
from services.common.reload import Reloader
from services.hf.config import HfConfig
from services.litellm.config import LiteLlmConfig
from services.openrouter.config import OpenRouterConfig
from services.vllm.config import VllmConfig

ROUTES = {"hf_": {"targets": ["127.0.0.1:1"]}}
#: What a file must have.
NEEDED: dict[type[ServiceConfig], dict[str, Any]] = {
    RouterConfig: {"listen": "127.0.0.1:0", "routes": ROUTES},
    HfConfig: {"listen": "127.0.0.1:0", "models": []},
    VllmConfig: {"listen": "127.0.0.1:0", "models": []},
    OpenRouterConfig: {"listen": "127.0.0.1:0", "models": []},
    LiteLlmConfig: {"listen": "127.0.0.1:0", "models": []},
}

#: A value of each key that is not its default.
OTHER: dict[str, Any] = {
    "listen": "127.0.0.1:3",
    "tls": {"certificate": "a", "key": "b"},
    "insecure": True,
    "metrics": "127.0.0.1:2",
    "routes": ROUTES | {"vllm_": ROUTES["hf_"]},
    "tokens": "tokens.yaml",
    "usage": "other.sqlite",
    "replicas": "other.json",
    "edge": "127.0.0.1:50049",
    "open_health": False,
    "open_reflection": True,
    "fallbacks": {"hf_a": ["hf_b"]},
    "cache": {},
    "limits": [{"models": "*", "rpm": 5}],
    "breaker": None,
    "allow_unlisted": False,
    "journal": "journal",
    "base_url": "http://127.0.0.1:1/v1",
    "dialect": "openai",
    "referer": "http://example.org",
    "title": "other",
    "device": "cpu",
    "capture_content": True,
}
MODELS = {HfConfig: "hf_a", OpenRouterConfig: "openrouter_a", LiteLlmConfig: "litellm_openai/a"}

#: Keys that only a restart changes: of a listener, of its process, and of engines that run.
LISTENER = {
    *("listen", "tls", "insecure", "metrics", "request_id_seconds", "request_id_bytes"),
    *("max_connections", "max_streams", "max_idle_seconds", "drain_seconds"),
}
RESTART: dict[type[ServiceConfig], set[str]] = {
    RouterConfig: {*LISTENER, "workers", "usage", "edge"},
    OpenRouterConfig: {*LISTENER, "workers"},
    LiteLlmConfig: {*LISTENER, "workers"},
    HfConfig: {
        *(*LISTENER, "device", "threads", "memory_budget_gb", "max_batch", "max_waiting"),
        *("prefill_tokens", "default_max_tokens", "capture_content"),
    },
    VllmConfig: {
        *(*LISTENER, "max_waiting", "default_max_tokens", "hang_seconds", "capture_content"),
    },
}


def other(kind: type[ServiceConfig], key: str) -> Any:
    if key == "models":
        name = MODELS.get(kind, "vllm_a")
        return [{"name": name, "model_path": "a"}] if kind is VllmConfig else [name]
    if key in OTHER:
        return OTHER[key]
    default = kind.model_fields[key].default
    return 2 if default is None else default + 1  # a number


class Service:
    """Notes the configuration that it gets."""

    watched: Iterable[Path] = ()
    config: Any = None

    async def reconfigure(self, config: Any) -> None:
        self.config = config


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        pytest.param(kind, key, id=f"{kind.__name__}-{key}")
        for kind in NEEDED
        for key in kind.model_fields
        if (kind, key) != (RouterConfig, "capture_content")  # which it refuses
    ],
)
async def test_a_reload_applies_a_key_or_says_that_it_needs_a_restart(
    kind: type[ServiceConfig],
    key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    old = kind.model_validate(NEEDED[kind])
    new = kind.model_validate(NEEDED[kind] | {key: other(kind, key)})
    assert getattr(new, key) != getattr(old, key)
    service = Service()
    now = await Reloader(tmp_path / "none.yaml", lambda: new, ())._reload(service, old, [])
    found = getattr(service.config.whole, key), getattr(now, key)
    lines = capfd.readouterr().err.splitlines()
    said = [line for line in lines if "a change needs a restart" in line]
    if key in RESTART[kind]:
        assert found == (getattr(old, key),) * 2
        assert len(said) == 1
        assert f"keys={key}" in said[0]
    else:
        assert found == (getattr(new, key),) * 2
        assert not said
        assert any("configuration reloaded" in line and key in line for line in lines)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"listen": "0.0.0.0:1", "tls": OTHER["tls"]}, "neither tls.client_ca nor a router's"),
        # Valid by itself, but this process still listens for other machines.
        ({"listen": "127.0.0.1:0"}, "only a restart changes listen, tls"),
    ],
)
async def test_a_listener_for_other_machines_keeps_its_tokens(
    change: dict[str, Any], problem: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    exposed = {"listen": "0.0.0.0:1", "tls": OTHER["tls"], "tokens": "tokens.yaml"}
    old = RouterConfig.model_validate({"routes": ROUTES, **exposed})
    path = tmp_path / "router.yaml"
    path.write_text(json.dumps({"routes": ROUTES, **change}))
    service = Service()
    reloader = Reloader(path, partial(load_config, path, RouterConfig), ())
    assert await reloader._reload(service, old, []) is old
    assert service.config is None
    line = capfd.readouterr().err
    assert "configuration not reloaded" in line
    assert problem in line
