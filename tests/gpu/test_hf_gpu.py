"""The hf service on a GPU: what it does on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from arena_llm import Client
from deploy.services import ROOT
from services.hf.embedded import default_folder
from tests.integration.system.test_hf import (  # noqa: F401 - tests, for this device
    MODEL,
    test_a_cancelled_call_stops_generation,
    test_a_conversation,
    test_a_move,
    test_a_stream_is_the_completion_in_pieces,
    test_it_knows_something,
    test_odd_choices_come_back_as_they_are,
    test_the_same_seed_gives_the_same_text,
    test_the_score_is_the_probability_of_the_choice,
)
from tests.support.processes import ServiceProcess
from tests.support.system import free_ports


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    entry = {"name": MODEL, "model_path": str(ROOT / default_folder()), "preload": True}
    config: Path = tmp_path_factory.mktemp("hf") / "hf_models.yaml"
    config.write_text(yaml.safe_dump({"listen": address, "device": "cuda", "models": [entry]}))
    with (
        ServiceProcess(address, "-m", "services.hf", "--config", str(config)) as service,
        Client(service.address) as client,
    ):
        yield client
