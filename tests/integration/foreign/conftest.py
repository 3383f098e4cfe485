"""A small backend and a router before it, which clients of others call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from google.rpc import error_details_pb2

from tests.support.processes import ServiceProcess, router_process
from tests.support.system import free_ports

#: The model of examples/parrot.py: it repeats the prompt.
MODEL = "parrot_grey"

PROTO = Path(__file__).parents[3] / "proto"
#: The package of google.rpc has the .proto files too.
GOOGLE_PROTO = Path(error_details_pb2.__file__).parents[2]


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    config = tmp_path_factory.mktemp("parrot") / "parrot.yaml"
    address = f"127.0.0.1:{free_ports(1)[0]}"
    config.write_text(yaml.safe_dump({"listen": address, "models": [MODEL]}))
    arguments = ("-m", "examples.parrot", "--config", str(config))
    with ServiceProcess(address, *arguments) as process:
        yield process


@pytest.fixture(scope="package")
def router(
    service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    config = tmp_path_factory.mktemp("router") / "router.yaml"
    address = f"127.0.0.1:{free_ports(1)[0]}"
    routes = {"parrot_": {"targets": [service.address]}}
    config.write_text(yaml.safe_dump({"listen": address, "routes": routes}))
    with router_process(address, config) as process:
        yield process
