"""The vllm service on a GPU: what it does on a CPU, two engines on one device, its memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from arena_llm import Client
from arena_llm.errors import FailedPreconditionError
from arena_llm.types import ModelState
from tests.integration.vllm.test_vllm import (  # noqa: F401 - tests and their fixture, for this device
    PROMPT,
    llm,
    test_200_cancelled_at_once_leave_nothing,
    test_a_closed_stream_and_a_passed_deadline_free_the_engine,
    test_a_move,
    test_a_pattern_is_obeyed,
    test_a_score_reads_its_prompt_from_the_cache,
    test_a_stream_is_the_completion_in_pieces,
    test_an_adapter_is_a_model_of_its_own,
    test_every_choice_can_come,
    test_it_knows_something,
    test_json_obeys_its_schema,
    test_metrics_for_a_scaler,
    test_the_same_seed_gives_the_same_text,
    test_the_score_is_the_probability_of_the_choice,
)
from tests.support.vllm import EMBEDDED, TINY, VllmProcess, serving_models

TOO_LARGE = "vllm_too-large"


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmProcess]:
    """Two engines with a share of the device each, and one that finds too little left."""
    folder = tmp_path_factory.mktemp("vllm")
    models = serving_models(folder)
    models.append({"name": TOO_LARGE, "model_path": models[0]["model_path"]})
    for model, share in zip(models, (0.2, 0.3, 0.9), strict=True):
        model["device"] = "cuda"
        model["engine_args"] = {"gpu_memory_utilization": share, "max_num_seqs": 16}
    with VllmProcess(folder, models, max_waiting=200) as process:
        yield process


def test_two_engines_share_the_device(llm: Client) -> None:  # noqa: F811 - the fixture
    for model in (TINY, EMBEDDED):
        assert llm.is_available(model).state == ModelState.READY
        assert llm.generate(model, PROMPT, choices=["4"]).text == "4"


def test_too_little_memory_says_what_to_lower(llm: Client) -> None:  # noqa: F811 - the fixture
    with pytest.raises(FailedPreconditionError, match="gpu_memory_utilization"):
        llm.generate(TOO_LARGE, PROMPT)
    told = llm.is_available(TOO_LARGE)
    assert (told.available, told.state) == (False, ModelState.MISCONFIGURED)
    assert "holds the GPU's memory" in told.detail
