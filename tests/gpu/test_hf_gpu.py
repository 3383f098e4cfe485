"""The hf service on a GPU: the contract of local services."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from arena_llm import Client
from tests.integration.local.test_constraints import (  # noqa: F401 - a test, for this device
    test_an_unusual_choice_is_returned_unchanged,
)
from tests.integration.local.test_load import (  # noqa: F401 - tests, for this device
    test_cancelled_calls_and_closed_streams_free_the_engine,
    test_expired_deadlines_free_the_engine,
)
from tests.integration.local.test_parameters import (  # noqa: F401 - a test, for this device
    test_every_honoured_parameter_reaches_the_engine,
)
from tests.integration.local.test_replies import (  # noqa: F401 - tests, for this device
    test_a_move,
    test_a_score_is_the_log_probability_of_the_text,
    test_a_stream_has_the_text_of_the_completion,
)
from tests.integration.system.test_hf import MODEL
from tests.support.local_models import LocalService, hf_models, make_tiny
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess


@dataclass(frozen=True)
class GpuService(LocalService):
    """The service in its own process, without a system."""

    own_address: str = ""

    @property
    def address(self) -> str:
        return self.own_address


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuService]:
    """The embedded model and a tiny one."""
    folder: Path = tmp_path_factory.mktemp("hf")
    models = hf_models(folder, make_tiny(folder / "tiny"))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    config = folder / "hf_models.yaml"
    settings = {"device": "cuda", "max_batch": 16, "max_waiting": 200}
    config.write_text(yaml.safe_dump({"listen": address, **settings, "models": models}))
    with ServiceProcess(address, "-m", "services.hf", "--config", str(config)):
        yield GpuService("hf", None, address)  # type: ignore[arg-type] # no system


@pytest.fixture
def llm(service: GpuService) -> Iterator[Client]:
    with Client(service.address) as client:
        yield client


def test_the_embedded_model_answers(llm: Client) -> None:
    reply = llm.generate(MODEL, "What is the capital of France?", max_tokens=32, temperature=0)
    assert "Paris" in reply.text
