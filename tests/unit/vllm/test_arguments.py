"""What an entry says about its engine before the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.vllm.arguments import find_context_length
from services.vllm.config import VllmModel


@pytest.mark.parametrize(
    ("config", "arguments", "length"),
    [
        ({"max_position_embeddings": 128}, {}, 128),
        ({"max_position_embeddings": 8192}, {"max_model_len": 100}, 100),
        ({"n_positions": 1024}, {"max_model_len": "auto"}, 1024),
        ({"text_config": {"max_position_embeddings": 64}}, {}, 64),
        ({}, {}, 2048),
        ([], {}, 2048),
    ],
)
def test_the_context_length(
    tmp_path: Path, config: Any, arguments: dict[str, Any], length: int
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    entry = VllmModel(name="vllm_a", model_path=tmp_path, engine_args=arguments)
    assert find_context_length(entry) == length
