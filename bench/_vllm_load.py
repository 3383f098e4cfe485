"""What all ways of the vllm benchmarks share: the model, its arguments, the prompts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

#: The interpreter of vLLM's environment.
PYTHON = Path(".venv-vllm/bin/python")

MODEL = "vllm_small"

#: Beside those that the service gives an engine on a CPU.
ENGINE_ARGS: dict[str, Any] = {"kv_cache_memory_bytes": 256 << 20}

#: What vLLM reads, the same for all ways; the service sets it for itself.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}

#: A random Llama of 3 million parameters: 4 layers, 256 wide.
_SIZE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
}

_BOARD = "The board is full of choices: 0 1 2 3 4 5 6 7 8. Yes or no? "


def make_model(folder: Path) -> Path:
    """A small random model, whose replies end at their limit alone."""
    from safetensors.torch import load_file, save_file

    from tests.support.tiny_models import make_checkpoint

    make_checkpoint(folder, "llama", chat=True, **_SIZE)
    weights = load_file(folder / "model.safetensors")
    # Greedy, the end token with a logit of zero never is the likeliest.
    weights["lm_head.weight"][1] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def prompts(topic: str, count: int, *, boards: int = 2) -> list[str]:
    """Prompts of 32 tokens, and 35 for each board, that have nothing in common but the
    chat's first words."""
    return [f"{topic} {number}. {_BOARD * boards}Your move?" for number in range(count)]


def environment() -> dict[str, str]:
    """This process's environment with vLLM's settings."""
    return {**os.environ, **ENVIRONMENT}
