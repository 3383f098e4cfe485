"""The backend of a call, its metadata, and the configuration of the routes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from router.config import RouterConfig
from router.routing import (
    MAX_HOPS,
    build_metadata,
    build_service_config,
    build_target,
    find_prefix,
)
from services.common.config import ConfigError, load_config
from services.common.errors import InvalidRequest, RouteLoop, UnknownPrefix

PREFIXES = ("openrouter_", "hf_", "hf_meta-", "hf_meta-llama/")


@pytest.mark.parametrize(
    ("model", "prefix"),
    [
        ("openrouter_openai/gpt-4o", "openrouter_"),
        ("hf_gpt2", "hf_"),
        ("hf_meta-x", "hf_meta-"),
        ("hf_meta-llama/x", "hf_meta-llama/"),
        ("hf_meta", "hf_"),
        ("hf_", "hf_"),
    ],
)
@pytest.mark.parametrize("prefixes", [PREFIXES, PREFIXES[::-1]])
def test_the_longest_prefix_takes_precedence(
    model: str, prefix: str, prefixes: tuple[str, ...]
) -> None:
    assert find_prefix(model, prefixes) == prefix


@pytest.mark.parametrize("model", ["gpt2", "hf", "HF_gpt2", " hf_gpt2", "xhf_gpt2", "x" * 9999])
def test_an_unknown_prefix_lists_the_known_ones(model: str) -> None:
    with pytest.raises(UnknownPrefix) as caught:
        find_prefix(model, PREFIXES)
    assert caught.value.field == "model"
    assert "openrouter_, hf_, hf_meta-" in caught.value.message
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("model", ["", "  "])
def test_no_model(model: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        find_prefix(model, PREFIXES)
    assert caught.value.field == "model"


OWN = (("user-agent", "grpc"), ("grpc-previous-rpc-attempts", "1"), ("te", "trailers"))
HOP = ("arena-hops", "1")


@pytest.mark.parametrize(
    ("metadata", "session", "expected"),
    [
        ((), "", (HOP,)),
        (OWN, "", (HOP,)),
        ((*OWN, ("traceparent", "00-1")), "", (("traceparent", "00-1"), HOP)),
        ((("x", "1"), ("x", "2")), "", (("x", "1"), ("x", "2"), HOP)),
        ((("key-bin", b"\x00\xff"),), "", (("key-bin", b"\x00\xff"), HOP)),
        ((), "game-7", (HOP, ("arena-session", "game-7"))),
        ((), "a b\né", (HOP, ("arena-session", "a%20b%0A%C3%A9"))),
        ((("arena-session", "theirs"),), "ours", (("arena-session", "theirs"), HOP)),
        ((), "x" * 9999, (HOP, ("arena-session", "x" * 256))),
        ((("arena-hops", "2"),), "", (("arena-hops", "3"),)),
        ((("arena-hops", "no number"),), "", (HOP,)),
        ((("arena-hops", "9" * 5_000),), "", (HOP,)),  # more than int() reads
    ],
)
def test_metadata_for_the_backend(metadata: tuple, session: str, expected: tuple) -> None:  # type: ignore[type-arg]
    assert build_metadata(metadata, session) == expected


def test_a_call_that_has_passed_too_many_routers_is_refused() -> None:
    assert build_metadata([("arena-hops", str(MAX_HOPS - 1))]) == (("arena-hops", str(MAX_HOPS)),)
    with pytest.raises(RouteLoop, match="a route leads back to a router"):
        build_metadata([("arena-hops", str(MAX_HOPS))])


@pytest.mark.parametrize(
    ("targets", "name"),
    [
        (["127.0.0.1:1"], "ipv4:127.0.0.1:1"),
        (["10.0.0.1:1", "10.0.0.2:1"], "ipv4:10.0.0.1:1,10.0.0.2:1"),
        (["[::1]:1", "[::2]:1"], "ipv6:[::1]:1,[::2]:1"),
        (["localhost:1"], "dns:///localhost:1"),
        (["hf.models.svc.cluster.local:1"], "dns:///hf.models.svc.cluster.local:1"),
    ],
)
def test_channel_target(targets: list[str], name: str) -> None:
    assert build_target(targets) == name


@pytest.mark.parametrize(
    ("policy", "balancing"),
    [
        ("round_robin", {"round_robin": {}}),
        (
            "session",
            {
                "ring_hash_experimental": {
                    "requestHashHeader": "arena-session",
                    "minRingSize": 384,
                    "maxRingSize": 384,
                }
            },
        ),
    ],
)
def test_service_config(policy: str, balancing: dict[str, object]) -> None:
    assert json.loads(build_service_config(policy, 3))["loadBalancingConfig"] == [balancing]


def load(tmp_path: Path, routes: str, head: str = "listen: 127.0.0.1:50050\n") -> RouterConfig:
    path = tmp_path / "router.yaml"
    path.write_text(f"{head}routes:\n{routes}")
    return load_config(path, RouterConfig)


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ("", ["routes"]),
        ("  {}\n", ["routes"]),
        ("  hf_: {}\n", ["routes.hf_.targets", "required"]),
        ("  hf_: {targets: []}\n", ["routes.hf_.targets", "at least 1"]),
        ("  hf_: {targets: [here]}\n", ["routes.hf_.targets[0]", "host:port"]),
        ("  hf_: {targets: ['http://a:1']}\n", ["routes.hf_.targets[0]", "host:port"]),
        ("  hf_: {targets: ['1.2.3.4:0']}\n", ["routes.hf_.targets", "port 0"]),
        ("  hf_: {targets: ['1.2.3.4:1', '1.2.3.4:1']}\n", ["routes.hf_.targets", "twice"]),
        ("  hf_: {targets: ['1.2.3.4:1', 'host:1']}\n", ["routes.hf_.targets", "IP addresses"]),
        ("  hf_: {targets: ['1.2.3.4:1', '[::1]:1']}\n", ["routes.hf_.targets", "one version"]),
        ("  hf_: {targets: ['a:1', 'b:1']}\n", ["routes.hf_.targets", "stands alone"]),
        ("  hf_: {targets: ['a:1'], policy: random}\n", ["routes.hf_.policy", "round_robin"]),
        ("  hf_: {targets: ['a:1'], colour: red}\n", ["routes.hf_.colour", "unknown key"]),
        ("  hf_: {targets: ['a:1']}\n  hf_: {targets: ['b:1']}\n", ["hf_", "twice"]),
        ("  'h f': {targets: ['a:1']}\n", ["routes.h f", "pattern"]),
        ("  '': {targets: ['a:1']}\n", ["routes", "pattern"]),
        ("  hf_: {targets: ['127.0.0.1:50050']}\n", ["routes.hf_", "router itself listens"]),
        ("  hf_: {targets: ['a:1']}\nask_timeout_seconds: 0\n", ["ask_timeout_seconds", "greater"]),
    ],
)
def test_a_configuration_that_cannot_be_used(tmp_path: Path, routes: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, routes)
    for word in ("router.yaml", *said):
        assert word in str(caught.value)


@pytest.mark.parametrize("target", ["http://localhost:50051", "localhost", "localhost:99999"])
def test_the_error_about_a_target_shows_the_right_form(tmp_path: Path, target: str) -> None:
    with pytest.raises(ConfigError, match=r"hf_\.targets\[0\].*write host:port, such as 127"):
        load(tmp_path, f"  hf_: {{targets: ['{target}']}}\n")


def test_the_shipped_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROUTER", "OPENROUTER", "LITELLM", "VLLM", "HF"):
        monkeypatch.delenv(f"ARENA_{name}_PORT", raising=False)
    config = load_config(Path("configs/router.yaml"), RouterConfig)
    assert config.listen == "127.0.0.1:50050"
    assert {prefix: route.targets for prefix, route in config.routes.items()} == {
        "openrouter_": ["127.0.0.1:50051"],
        "litellm_": ["127.0.0.1:50052"],
        "vllm_": ["127.0.0.1:50053"],
        "hf_": ["127.0.0.1:50054"],
    }
    assert all(route.start for route in config.routes.values())


def test_each_port_has_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARENA_HF_PORT", "7")
    monkeypatch.setenv("ARENA_ROUTER_PORT", "8")
    config = load_config(Path("configs/router.yaml"), RouterConfig)
    assert (config.routes["hf_"].targets, config.listen) == (["127.0.0.1:7"], "127.0.0.1:8")


@pytest.mark.parametrize(
    ("model", "sent"), [("hf_a", ["hf_a"]), ("hf_b", ["hf_b"]), ("hf_\u00e9", []), ("", ["hf_a"])]
)
def test_the_header_for_proxies_names_the_model_that_is_called(model: str, sent: list[str]) -> None:
    """A fallback is another model than the caller's."""
    metadata = build_metadata([("arena-model", "hf_a")], model=model)
    assert [value for key, value in metadata if key == "arena-model"] == sent
