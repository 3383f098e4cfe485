"""One system for the tests of this folder: router, hf and vllm with the same tiny model.

Every engine start of vLLM costs a minute of CPU, so the tests share this one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from arena_llm import Client
from deploy.services import ROOT, VLLM
from tests.support.local_models import (
    LocalService,
    hf_models,
    make_tiny,
    require_vllm,
    vllm_models,
)
from tests.support.system import System, free_ports

HANG_SECONDS = 10


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local")


@pytest.fixture(scope="package")
def tiny(folder: Path) -> Path:
    """The checkpoint that both services serve."""
    return make_tiny(folder / "tiny")


@pytest.fixture(scope="package")
def system(folder: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """`make up VLLM=1`, with tiny models. vLLM's sockets need a short temporary folder."""
    require_vllm()
    configs = Path(shutil.copytree(ROOT / "configs", folder / "configs"))
    for name, settings, models in (
        ("hf_models.yaml", {"device": "cpu", "max_batch": 16}, hf_models(folder, tiny)),
        (VLLM.config, {"hang_seconds": HANG_SECONDS}, vllm_models(folder, tiny)),
    ):
        written = yaml.safe_load((ROOT / "configs" / name).read_text())
        written |= {"max_waiting": 200, **settings, "models": models}
        (configs / name).write_text(yaml.safe_dump(written))
    port, metrics = free_ports(2)
    environ = {
        "VLLM": "1",
        "ARENA_CONFIG_DIR": str(configs),
        VLLM.variable: str(port),
        "ARENA_VLLM_METRICS_PORT": str(metrics),
        "TMPDIR": str(tmp_path_factory.mktemp("t")),
    }
    system = System(folder / "run", environ)
    try:
        system.up()
        yield system
    finally:
        system.down()


@pytest.fixture(params=["hf", "vllm"])
def service(request: pytest.FixtureRequest, system: System) -> LocalService:
    """Each service that runs models on this machine."""
    return LocalService(request.param, system)


@pytest.fixture
def llm(service: LocalService) -> Iterator[Client]:
    """A client of the service itself, without the router."""
    with Client(service.address) as client:
        yield client
