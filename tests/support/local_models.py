"""A tiny model that hf and vllm both serve, and broken variants of it."""

from __future__ import annotations

import json
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from arena_llm import Client
from arena_llm.types import EngineLoad
from deploy.environment import vllm_problem
from deploy.services import ROOT, VLLM
from services.common.local.checks import embedded_folder
from tests.support.broken_models import silence_token, spoil_token
from tests.support.system import System
from tests.support.tiny_models import CHATML, make_checkpoint

#: The size of the tiny model. vLLM's attention on CPUs needs heads of at least 32 numbers; the
#: vocabulary is the tokenizer's.
SIZE = {"hidden_size": 128, "intermediate_size": 256, "vocab_size": 310}
PROMPT = "Tic-tac-toe. The board is empty. You are X. Answer with the number of a cell."
#: A token for which the tiny model has no embedding.
FAR = "<|far|>"
#: In a prompt, it makes the chat template write FAR.
BREAK = "BREAK"
#: The tiny model computes NaN after it has read this letter.
BAD = "Z"

#: A conversation with calls of tools.
_TURNS = CHATML.replace(
    "message['content'] + ",
    "message['content'] + (message.tool_calls | tojson if message.tool_calls else '') + ",
)
#: Refuses system messages and renders nothing for an assistant message alone.
TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    f"{{% if '{BREAK}' in messages[-1]['content'] %}}{FAR}{{% endif %}}"
    "{% if tools %}{{ tools | tojson }}{% endif %}{% if brief %}{{ 'Be brief.' }}{% endif %}"
    "{% if messages[0].role == 'user' %}" + _TURNS + "{% endif %}"
)

#: What the tiny model's entry says about tools and reasoning.
PARSERS = {"tool_parser": "hermes", "reasoning_efforts": {"low": {"brief": True}}}


@dataclass(frozen=True)
class LocalService:
    """hf or vllm in a running system. engine: of hf's tiny model, if it is not OpenVINO."""

    name: str
    system: System
    engine: str = ""

    @property
    def tiny(self) -> str:
        """The name of the tiny model."""
        return "-".join(filter(None, (f"{self.name}_tiny", self.engine)))

    @property
    def address(self) -> str:
        if self.name == "vllm":
            return f"127.0.0.1:{self.system.env[VLLM.variable]}"
        return self.system.hf_target

    def load(self, llm: Client, model: str = "") -> EngineLoad:
        """The current load of a model, by default of the tiny one."""
        load = llm.is_available(model or self.tiny).load
        assert load is not None
        return load

    def is_idle(self, llm: Client) -> bool:
        """True if no request of the tiny model runs or waits."""
        load = self.load(llm)
        return load.running + load.waiting == 0

    def log(self) -> str:
        return self.system.log(self.name)

    def metric(self, name: str, model: str = "") -> float:
        """The value of one of vLLM's metrics, as Prometheus scrapes it."""
        port = self.system.env["ARENA_VLLM_METRICS_PORT"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        pattern = rf'^{name}{{[^}}]*"{model or self.tiny}"[^}}]*}} (\S+)$'
        match = re.search(pattern, text, re.MULTILINE)
        assert match, name
        return float(match[1])


def require_vllm() -> None:
    """Skip on a platform without a build of vLLM. Elsewhere it must be installed."""
    if reason := vllm_problem():
        pytest.skip(reason)
    assert (ROOT / ".venv-vllm" / ".complete").exists(), "run `make setup-vllm`"


def make_tiny(folder: Path) -> Path:
    """A random chat model that computes NaN after the letter BAD, and has no embedding of FAR."""
    make_checkpoint(folder, "llama", chat=True, **SIZE)
    silence_token(spoil_token(folder, BAD), BAD)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([FAR])
    tokenizer.save_pretrained(folder)
    return folder


def hf_models(folder: Path, tiny: Path) -> list[dict[str, Any]]:
    """The hf service's entries: the embedded model, which `make up` asks, and the tiny one.

    hf_tiny runs on OpenVINO, hf_tiny-transformers on transformers.
    """
    embedded = {
        "name": "hf_smollm2-135m-instruct",
        "model_path": str(ROOT / embedded_folder()),
        "preload": True,
    }
    entry = {"model_path": str(tiny), "preload": True, **PARSERS}
    entry["chat_template"] = _template(folder)
    return [
        embedded,
        {"name": "hf_tiny", "engine": "openvino", **entry},
        {"name": "hf_tiny-transformers", "engine": "transformers", **entry},
    ]


#: A model of the vllm service that cannot run -> the reason. Calls and IsAvailable report it.
UNUSABLE = {
    "vllm_tiny-narrow": r"does not fit its base: .*o_proj has 128 inputs, the adapter 96",
    "vllm_tiny-wide": r"does not fit its base: .*o_proj has 128 inputs, the adapter 256",
    "vllm_tiny-empty": r"does not fit its base: .*doesn't contain tensors",
    "vllm_tiny-absent": r"is not a LoRA adapter",
    "vllm_tiny-nan": r"vllm_tiny-nan computes NaN",
    "vllm_absent": r"model_path .*/none is not a model folder",
    "vllm_untokenized": r"has no tokenizer: set tokenizer_path",
    "vllm_garbled": r"its engine does not start: .*/garbled/tokenizer.json cannot be read",
    "vllm_gpu-only": r"no CUDA device: look at nvidia-smi",
    "vllm_mistyped": r"its engine does not start: .*float77",
    "vllm_memory": r"No available memory for the cache.*kv_cache_memory_bytes",
}


def vllm_models(folder: Path, tiny: Path) -> list[dict[str, Any]]:
    """The vllm service's entries: the tiny model with LoRA adapters, and those of UNUSABLE."""
    untokenized = make_tiny(folder / "untokenized")
    for path in untokenized.glob("tokenizer*"):
        path.unlink()
    garbled = make_tiny(folder / "garbled") / "tokenizer.json"
    garbled.write_bytes(garbled.read_bytes()[:-9])
    broken = [
        {"name": "vllm_absent", "model_path": str(folder / "none")},
        {"name": "vllm_untokenized", "model_path": str(untokenized)},
        {"name": "vllm_garbled", "model_path": str(garbled.parent)},
        {"name": "vllm_gpu-only", "model_path": str(tiny), "device": "cuda"},
        {"name": "vllm_mistyped", "model_path": str(tiny), "engine_args": {"dtype": "float77"}},
        {
            "name": "vllm_memory",
            "model_path": str(tiny),
            "engine_args": {"kv_cache_memory_bytes": 1000},
            "preload": False,
        },
    ]
    return [
        {
            "name": "vllm_tiny",
            "model_path": str(tiny),
            "chat_template": _template(folder),
            **PARSERS,
            "engine_args": {"max_num_seqs": 16, "kv_cache_memory_bytes": 1 << 29},
            "lora": [
                {"name": f"vllm_tiny-{name}", "path": str(path)}
                for name, path in _adapters(folder).items()
            ],
        },
        *broken,
    ]


def _template(folder: Path) -> str:
    path = folder / "chat.jinja"
    path.write_text(TEMPLATE)
    return str(path)


def _adapters(folder: Path) -> dict[str, Path]:
    adapters = {
        "black": make_lora(folder / "black"),
        "narrow": make_lora(folder / "narrow", hidden_size=96),
        "wide": make_lora(folder / "wide", hidden_size=256),
        "empty": make_lora(folder / "empty"),
        "absent": folder / "absent",
        "nan": make_lora(folder / "nan"),
        "ranks": make_lora(folder / "ranks", ranks=(4, 16)),
    }
    (adapters["empty"] / "adapter_model.safetensors").unlink()
    weights = adapters["nan"] / "adapter_model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(weights).items()}, weights)
    return adapters


def make_lora(
    folder: Path, *, hidden_size: int = SIZE["hidden_size"], ranks: tuple[int, int] = (4, 4)
) -> Path:
    """A random LoRA adapter of the attention's output, in PEFT's format. ranks: of each layer."""
    torch.manual_seed(1)
    folder.mkdir(parents=True)
    settings = {
        "peft_type": "LORA",
        "r": ranks[0],
        "lora_alpha": 64,
        "target_modules": ["o_proj"],
        "rank_pattern": {"layers.1.self_attn.o_proj": ranks[1]} if ranks[1] != ranks[0] else {},
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    name = "base_model.model.model.layers.{}.self_attn.o_proj.lora_{}.weight"
    tensors = {}
    for layer, rank in enumerate(ranks):
        tensors[name.format(layer, "A")] = torch.randn(rank, hidden_size)
        tensors[name.format(layer, "B")] = torch.randn(hidden_size, rank)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def merge_lora(model: Any, adapter: Path) -> None:
    """Add an adapter of make_lora to the weights of a model of transformers."""
    settings = json.loads((adapter / "adapter_config.json").read_text())
    tensors = load_file(adapter / "adapter_model.safetensors")
    for layer, block in enumerate(model.model.layers):
        a, b = (
            tensors[f"base_model.model.model.layers.{layer}.self_attn.o_proj.lora_{side}.weight"]
            for side in "AB"
        )
        with torch.no_grad():
            block.self_attn.o_proj.weight += b @ a * (settings["lora_alpha"] / len(a))
