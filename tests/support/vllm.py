"""What the vllm service is tested with: tiny models for it, and its process."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from tests.support.tiny_models import make_checkpoint

#: vLLM's attention on CPUs wants heads of 32 at least.
_SIZE = {"hidden_size": 128, "intermediate_size": 256}


def make_tiny(folder: Path, *, thinks: bool = False, **changes: int) -> Path:
    """A random chat model that vLLM runs on a CPU.

    thinks: its tokenizer has <think> and </think>, as models that reason have.
    """
    make_checkpoint(folder, "llama", chat=True, **{**_SIZE, **changes})
    if thinks:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens(["<think>", "</think>"])
        tokenizer.save_pretrained(folder)
    return folder


def make_lora(folder: Path, *, hidden_size: int = _SIZE["hidden_size"], rank: int = 4) -> Path:
    """A random LoRA adapter of the attention's output, in PEFT's format."""
    torch.manual_seed(1)
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 64, "target_modules": ["o_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    name = "base_model.model.model.layers.{}.self_attn.o_proj.lora_{}.weight"
    tensors = {}
    for layer in range(2):
        tensors[name.format(layer, "A")] = torch.randn(rank, hidden_size)
        tensors[name.format(layer, "B")] = torch.randn(hidden_size, rank)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder
