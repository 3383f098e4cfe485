"""Envoy's configuration, and what is refused before Envoy starts."""

from __future__ import annotations

import re
from typing import Any

import pytest

from arena_llm.tls import Tls
from deploy.edge.routes import check
from deploy.services import find_service, selected_services
from router.config import RouterConfig
from router.targets import KnownReplicas
from services.common.config import ConfigError
from tests.support.edge import make_resources

ONE, TWO = "127.0.0.1:1", "127.0.0.1:2"


def configure(**settings: Any) -> RouterConfig:
    routes = {"hf_": {"targets": [ONE]}, "hf_big-": {"targets": [TWO]}}
    return RouterConfig.model_validate(
        {"listen": "127.0.0.1:3", "edge": "127.0.0.1:4", "routes": routes} | settings
    )


def find(resources: dict[str, list[Any]], name: str) -> Any:
    return next(one for one in resources["clusters"] if one["name"] == name)


def test_the_longest_prefix_comes_first() -> None:
    (routes,) = make_resources(configure())["routes"]
    actions = [one["route"]["cluster"] for one in routes["virtual_hosts"][0]["routes"]]
    assert actions == ["router", "hf_big- or router", "hf_ or router", "router"]


@pytest.mark.parametrize(
    ("settings", "name", "is_routed"),
    [
        ({"fallbacks": {"hf_a.b": ["hf_c"]}}, "hf_a.b", True),
        ({"fallbacks": {"hf_a.b": ["hf_c"]}}, "hf_a-b", False),
        ({"cache": {"models": ["hf_*"]}}, "hf_a", True),
        ({"cache": {"models": ["hf_[ab]?"]}}, "hf_ac", True),
        ({"cache": {"models": ["hf_[ab]?"]}}, "hf_c", False),
    ],
)
def test_models_that_need_the_router(settings: Any, name: str, is_routed: bool) -> None:
    (routes,) = make_resources(configure(**settings))["routes"]
    found = [
        header["string_match"]["safe_regex"]["regex"]
        for one in routes["virtual_hosts"][0]["routes"]
        for header in one["match"].get("headers", ())
        if "safe_regex" in header["string_match"]
    ]
    assert any(re.fullmatch(one, name) for one in found) == is_routed


def test_only_own_engines_are_left_out_after_failures() -> None:
    resources = make_resources(configure())
    assert "outlier_detection" in find(resources, "hf_")
    assert "outlier_detection" not in find(resources, "hf_big-")


def test_endpoints_follow_the_replicas() -> None:
    held = make_resources(configure(), {ONE: KnownReplicas(targets=[ONE], held=True)})
    assert held["cluster.hf_"][0]["endpoints"] == [{"lb_endpoints": []}]
    two = make_resources(configure(), {ONE: KnownReplicas(targets=[ONE, "127.0.0.1:9"])})
    assert len(two["cluster.hf_"][0]["endpoints"][0]["lb_endpoints"]) == 2


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"edge": None}, "edge: the address of Envoy is missing"),
        ({"cache": {"mode": "record", "store": "a.sqlite"}}, "cache.mode: record needs every call"),
    ],
)
def test_what_the_edge_cannot_keep_is_refused(settings: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        check(configure(**settings))


def test_an_edge_beyond_this_machine_needs_encryption_and_tokens() -> None:
    with pytest.raises(ValueError, match="edge: other machines can reach"):
        configure(edge="0.0.0.0:4")
    assert configure(edge="0.0.0.0:4", insecure=True)


def test_the_edge_calls_an_encrypted_router_as_clients_do() -> None:
    config = configure(tls={"certificate": "a.crt", "key": "a.key"})
    with pytest.raises(ConfigError, match="set ARENA_LLM_CA"):
        make_resources(config)
    router = find(make_resources(config, tls=Tls(ca="ca.crt")), "router")
    assert router["transport_socket"]["typed_config"]["sni"] == "127.0.0.1"


def test_the_edge_is_started_only_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    edge = find_service("edge")
    for value, is_started in (("", False), ("0", False), ("envoy", True)):
        monkeypatch.setenv("EDGE", value)
        assert (edge in selected_services()) == is_started
    monkeypatch.setenv("EDGE", "nginx")
    with pytest.raises(ConfigError, match="EDGE must be envoy, not 'nginx'"):
        selected_services()
    monkeypatch.setenv("ARENA_EDGE_PORT", "70000")
    with pytest.raises(ConfigError, match="ARENA_EDGE_PORT is '70000'"):
        print(edge.address)
