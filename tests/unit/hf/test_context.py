"""How many tokens a model can read."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import LlamaConfig, Phi3Config

from services.hf.config import HfModel
from services.hf.context import read_context_length

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
LONG = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}


def length(config: Any, **entry: Any) -> int | None:
    return read_context_length(HfModel(name="hf_tiny", **entry), config)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, 1024),
        ({"type": "linear", "factor": 4.0}, 4096),
        ({"rope_type": "yarn", "factor": 4.0}, 4096),
        # config.json may have the scaled length already.
        (YARN, 2048),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 128,
          "low_freq_factor": 1.0, "high_freq_factor": 4.0}, 1024),
        # A longer text would change the keys of its first tokens.
        ({"type": "dynamic", "factor": 4.0}, 1024),
    ],
    ids=str,
)  # fmt: skip
def test_scaled_rotary_embeddings_count(scaling: Any, expected: int) -> None:
    config = LlamaConfig(max_position_embeddings=1024, rope_scaling=scaling)
    assert length(config) == expected
    assert length(config, context_length=100) == 100
    assert length(config, context_length=10**9) == expected


def test_a_model_whose_keys_depend_on_the_length_reads_the_original_length() -> None:
    config = Phi3Config(
        hidden_size=64,
        num_attention_heads=4,
        original_max_position_embeddings=32,
        max_position_embeddings=128,
        rope_scaling={"type": "longrope", **LONG},
        pad_token_id=0,
    )
    assert length(config) == 32


def test_a_model_without_a_length_needs_one_from_its_entry() -> None:
    config = LlamaConfig()
    config.max_position_embeddings = 0
    assert length(config) is None
    assert length(config, context_length=100) == 100
