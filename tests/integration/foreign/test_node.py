"""gRPC's own client for Node passes a short conformance run, with nothing but the .proto files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.foreign.conftest import GOOGLE_PROTO, MODEL, PROTO
from tests.support.processes import ServiceProcess

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("npm") is None, reason="Node.js with npm is not installed"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program and the packages of its lock file."""
    folder = tmp_path_factory.mktemp("node")
    for file in (Path(__file__).parent / "node").glob("*.*"):
        shutil.copy(file, folder)
    subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.mark.parametrize("target", ["service", "router"])
def test_conformance(target: str, node: Path, request: pytest.FixtureRequest) -> None:
    process: ServiceProcess = request.getfixturevalue(target)
    done = subprocess.run(
        ["node", "conformance.mjs", process.address, MODEL, str(PROTO), str(GOOGLE_PROTO)],
        cwd=node,
        env=os.environ | ({"ROUTER": process.address} if target == "router" else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("@grpc/grpc-js 1.")
    assert done.stdout.count("ok - ") >= 11
    print(done.stdout)
