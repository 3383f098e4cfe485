"""grpcurl and `buf curl` pass a short conformance run, by reflection and by the .proto files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.foreign.conftest import GOOGLE_PROTO, MODEL, PROTO
from tests.support.processes import ServiceProcess

pytestmark = pytest.mark.integration

SERVICE = "arena_llm.v1.LlmService"


def find(name: str) -> str:
    """A program of this environment, or of the system."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or ""


#: Sends a request in JSON to a method: the exit status, the messages of the reply, the error.
Call = Callable[..., tuple[int, list[Any], dict[str, Any]]]


def call_grpcurl(address: str, schema: str, method: str, body: str) -> Sequence[str]:
    files = ("-import-path", str(PROTO), "-import-path", str(GOOGLE_PROTO))
    files += ("-proto", "arena_llm/v1/llm_service.proto")
    options = ("-plaintext", "-format-error", "-d", body, *(files if schema == "files" else ()))
    return (find("grpcurl"), *options, address, f"{SERVICE}/{method}")


def call_buf(address: str, schema: str, method: str, body: str) -> Sequence[str]:
    files = ("--schema", str(PROTO)) if schema == "files" else ()
    options = ("--protocol", "grpc", "--http2-prior-knowledge", "-d", body, *files)
    return (find("buf"), "curl", *options, f"http://{address}/{SERVICE}/{method}")


PROGRAMS = {"grpcurl": call_grpcurl, "buf": call_buf}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not find(name):
        pytest.skip(f"{name} is not installed")
    version = run(find(name), "--version")
    print(name, version.stdout, version.stderr)
    return name


@pytest.fixture(params=["reflection", "files"])
def call(program: str, router: ServiceProcess, request: pytest.FixtureRequest) -> Call:
    def send(method: str, **fields: Any) -> tuple[int, list[Any], dict[str, Any]]:
        command = PROGRAMS[program](router.address, request.param, method, json.dumps(fields))
        done = run(*command)
        return done.returncode, read_all(done.stdout), json.loads(done.stderr or "{}")

    return send


def read_all(text: str) -> list[Any]:
    """The JSON documents that a text has one after the other.

    Their keys are the fields' names: grpcurl writes these if it has the contract by reflection.
    """
    found, decoder = [], json.JSONDecoder(object_hook=name_fields)
    while text := text.strip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def name_fields(found: dict[str, Any]) -> dict[str, Any]:
    return {re.sub("([A-Z])", r"_\1", key).lower(): value for key, value in found.items()}


def test_conformance(call: Call) -> None:
    status, [reply], _ = call("Generate", model=MODEL, prompt="one two")
    assert status == 0
    assert reply["message"]["parts"] == [{"text": "one two"}]
    assert reply["finish_reason"] == "FINISH_REASON_STOP"
    assert reply["usage"]["cost_picousd"] == "0"

    status, events, _ = call("StreamGenerate", model=MODEL, prompt="one two", requestId="shell-1")
    assert status == 0
    assert events[0]["start"]["request_id"] == "shell-1"
    assert "".join(event["delta"]["text"] for event in events[1:-1]) == "one two"
    assert events[-1]["completion"]["text"] == "one two"

    status, events, error = call("Generate", model=MODEL, prompt="one", config={"temperature": 1})
    assert status != 0
    assert events == []
    assert error["code"] in (12, "unimplemented")
    assert "config.temperature" in error["message"]
    kinds = [detail.get("@type", detail.get("type")) for detail in error["details"]]
    assert [kind.rpartition("/")[2] for kind in kinds] == [
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
    ]
