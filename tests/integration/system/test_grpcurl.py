"""grpcurl against the running system. It needs no proto files, because of reflection."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.system import System

SERVICE = "arena_llm.v1.LlmService"
MODEL = "hf_smollm2-135m-instruct"


@pytest.fixture(scope="module")
def grpcurl(system: System) -> str:
    done = system.deploy("grpcurl")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(params=["router", "hf"])
def target(system: System, request: pytest.FixtureRequest) -> str:
    """The address of the router, and of a service behind it."""
    return f"127.0.0.1:{system.ports[request.param]}"


def call(system: System, *arguments: str) -> str:
    done = system.run([*arguments])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_list(system: System, grpcurl: str, target: str) -> None:
    assert set(call(system, grpcurl, "-plaintext", target, "list").split()) == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_describe(system: System, grpcurl: str, target: str) -> None:
    described = call(system, grpcurl, "-plaintext", target, "describe", SERVICE)
    for rpc in ("Generate", "StreamGenerate", "Score", "CountTokens", "GetServiceInfo"):
        assert f"rpc {rpc} (" in described
    message = call(
        system, grpcurl, "-plaintext", target, "describe", "arena_llm.v1.GenerateRequest"
    )
    assert "string session = 12;" in message


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health(system: System, grpcurl: str, target: str, service: str) -> None:
    body = json.dumps({"service": service})
    reply = call(system, grpcurl, "-plaintext", "-d", body, target, "grpc.health.v1.Health/Check")
    assert json.loads(reply) == {"status": "SERVING"}


def generate(system: System, grpcurl: str, target: str, **request: Any) -> dict[str, Any]:
    body = json.dumps({"model": MODEL, "config": {"maxTokens": 8, "temperature": 0}, **request})
    reply = call(system, grpcurl, "-plaintext", "-d", body, target, f"{SERVICE}/Generate")
    return dict(json.loads(reply))


def test_generate(system: System, grpcurl: str, target: str) -> None:
    reply = generate(
        system, grpcurl, target, prompt="Your move?", constraint={"choices": {"values": ["4"]}}
    )
    served_by = reply["served_by"]
    assert (reply["text"], served_by["model"], served_by["backend"]) == ("4", MODEL, "hf")


def test_an_error_is_shown_with_its_details(system: System, grpcurl: str) -> None:
    body = json.dumps({"model": "hf_no-such-model", "prompt": "Your move?"})
    done = system.run([grpcurl, "-plaintext", "-d", body, system.target, f"{SERVICE}/Generate"])
    assert done.returncode != 0
    assert "Code: NotFound" in done.stderr
    assert "hf_no-such-model" in done.stderr
    assert '"reason":"MODEL_NOT_FOUND"' in done.stderr.replace(" ", "")
