"""gRPC's own client for Node passes a short conformance run, with nothing but the .proto files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from google.rpc import error_details_pb2

from tests.support.processes import ServiceProcess, router_process
from tests.support.system import free_ports

ROOT = Path(__file__).parents[3]
MODEL = "parrot_grey"

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


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    config = tmp_path_factory.mktemp("parrot") / "parrot.yaml"
    address = f"127.0.0.1:{free_ports(1)[0]}"
    config.write_text(yaml.safe_dump({"listen": address, "models": [MODEL]}))
    arguments = ("-m", "examples.parrot", "--config", str(config))
    with ServiceProcess(address, *arguments) as process:
        yield process


@pytest.fixture(scope="module")
def router(
    service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    config = tmp_path_factory.mktemp("router") / "router.yaml"
    address = f"127.0.0.1:{free_ports(1)[0]}"
    routes = {"parrot_": {"targets": [service.address]}}
    config.write_text(yaml.safe_dump({"listen": address, "routes": routes}))
    with router_process(address, config) as process:
        yield process


@pytest.mark.parametrize("target", ["service", "router"])
def test_conformance(target: str, node: Path, request: pytest.FixtureRequest) -> None:
    process: ServiceProcess = request.getfixturevalue(target)
    google = Path(error_details_pb2.__file__).parents[2]  # it has the .proto files too
    done = subprocess.run(
        ["node", "conformance.mjs", process.address, MODEL, str(ROOT / "proto"), str(google)],
        cwd=node,
        env=os.environ | ({"ROUTER": process.address} if target == "router" else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok - ") >= 11
