"""The system that the tests of this folder share, and each of its services with models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from arena_llm import Client
from deploy.services import VLLM
from tests.support.chain_models import make_thinker
from tests.support.image_models import make_image_model
from tests.support.local_models import LocalService, require_vllm
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess
from tests.support.system import System

#: Models of `models_service`: one that reasons, and one that reads images.
THINKER, VIEWER = "vllm_thinker", "vllm_viewer"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the test that looks for what the others have broken after them, and the tests that end
    the services last."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    if item.path.name == "test_vllm_deaths.py":
        return 2
    return int(item.name.startswith("test_the_service_still_serves["))


@pytest.fixture(scope="package")
def system(local_system: System) -> Iterator[System]:
    """The shared system. These tests are the last that use it, and they end its processes."""
    yield local_system
    local_system.down()


@pytest.fixture(scope="package")
def folder(system: System) -> Path:
    """The folder of the system's files."""
    return system.run_dir.parent


@pytest.fixture(params=["hf", "hf-transformers", "vllm"])
def service(request: pytest.FixtureRequest, system: System) -> LocalService:
    """Each engine that runs models on this machine. hf without a name is OpenVINO."""
    name, _, engine = request.param.partition("-")
    return LocalService(name, system, engine)


@pytest.fixture
def llm(service: LocalService) -> Iterator[Client]:
    """A client of the service itself, without the router."""
    with Client(service.address) as client:
        yield client


@pytest.fixture(scope="package")
def models_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A vllm service of its own, with models whose replies are known."""
    require_vllm()
    folder = tmp_path_factory.mktemp("models")
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    small = {"kv_cache_memory_bytes": 1 << 28, "max_num_seqs": 16}
    models = [
        {
            "name": THINKER,
            "model_path": str(make_thinker(folder / "thinker")),
            "reasoning_parser": "deepseek_r1",
            "tool_parser": "hermes",
            "engine_args": small,
        },
        {
            "name": VIEWER,
            "model_path": str(make_image_model(folder / "viewer")),
            "engine_args": {
                **small,
                "logprobs_mode": "processed_logprobs",
                "limit_mm_per_prompt": {"image": 2},
            },
        },
    ]
    config = folder / "vllm_models.yaml"
    config.write_text(yaml.safe_dump({"listen": address, "models": models}))
    arguments = ("-m", "services.vllm", "--config", str(config))
    python = Path(VLLM.python)
    with ServiceProcess(address, *arguments, python=python, patience=300) as process:
        yield process


@pytest.fixture
def known_llm(models_service: ServiceProcess) -> Iterator[Client]:
    """A client of the models whose replies are known."""
    with Client(models_service.address) as client:
        yield client
