"""The contract: linted, formatted, and the committed stubs are what it generates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "proto").rglob("*.proto"))
STUBS = Path("arena_llm/v1")


def test_the_committed_stubs_are_what_the_contract_generates(tmp_path: Path) -> None:
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto"]
    messages = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi")]
    subprocess.run([*protoc, *messages, *PROTOS], cwd=ROOT, check=True)
    service = [f"--grpc_python_out={tmp_path}", "proto/arena_llm/v1/llm_service.proto"]
    subprocess.run([*protoc, *service], cwd=ROOT, check=True)
    fresh = {path.name: path.read_text() for path in (tmp_path / STUBS).iterdir()}
    committed = {
        path.name: path.read_text()
        for path in (ROOT / "client/src" / STUBS).iterdir()
        if "_pb2" in path.name
    }
    assert len(PROTOS) * 2 + 1 == len(fresh)
    assert sorted(fresh) == sorted(committed), "run `make proto` and commit"
    for name, text in fresh.items():
        assert text == committed[name], f"{name} is out of date: run `make proto` and commit"


@pytest.mark.parametrize("arguments", [["lint"], ["format", "--diff", "--exit-code"]])
def test_buf(arguments: list[str]) -> None:
    buf = Path(sys.executable).with_name("buf")
    ended = subprocess.run([str(buf), *arguments], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
