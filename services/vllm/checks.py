"""What is wrong with an entry, before or after its engine has started, and how to fix it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokenizers import Tokenizer

from services.common.errors import ModelMisconfigured
from services.vllm.config import LoraAdapter, VllmModel

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt")

#: Of what pydantic says: the whole of the arguments, and where to read of pydantic.
_NOISE = re.compile(
    r" ?\[type=\w+, input_value=ArgsKwargs.*?, input_type=ArgsKwargs\]"
    r"| ?For further information visit \S+"
)

#: What a failed start says, and what to do then.
_REMEDIES = (
    (
        r"Free memory on device",
        "another process or engine holds the GPU's memory: stop it, or lower "
        "engine_args.gpu_memory_utilization",
    ),
    (
        r"No available memory for the cache blocks|KV cache is needed|larger than the available",
        "lower engine_args.max_model_len, or allow more memory: "
        "engine_args.gpu_memory_utilization, on a CPU engine_args.kv_cache_memory_bytes",
    ),
    (
        r"out of memory|OutOfMemory|Cannot allocate memory",
        "the model does not fit in memory: take a larger GPU, or set "
        "engine_args.tensor_parallel_size or quantization",
    ),
    (
        r"[Ww]orld size|tensor.parallel|device ordinal|number of GPUs",
        "set engine_args.tensor_parallel_size to the GPUs that there are",
    ),
)


def check_files(entry: VllmModel) -> None:
    """Raise ModelMisconfigured where the model, its tokenizer or its template is missing."""
    if not (entry.model_path / "config.json").is_file():
        raise _wrong(entry, f"model_path {entry.model_path} holds no model (no config.json)")
    folder = entry.tokenizer_path or entry.model_path
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise _wrong(entry, f"{folder} holds no tokenizer: set tokenizer_path to a folder with one")
    if entry.chat_template is not None and not entry.chat_template.is_file():
        raise _wrong(entry, f"chat_template {entry.chat_template} is no file")


def check_adapter(adapter: LoraAdapter) -> None:
    """Raise ModelMisconfigured where the adapter's folder is none."""
    if not (adapter.path / "adapter_config.json").is_file():
        raise ModelMisconfigured(
            f"{adapter.name}: {adapter.path} holds no LoRA adapter (no adapter_config.json): "
            "correct its path in configs/vllm_models.yaml"
        )


def check_device(entry: VllmModel) -> None:
    """Raise ModelMisconfigured where the engine finds no device to run on."""
    from vllm.platforms import current_platform

    if current_platform.is_unspecified() or (entry.device == "cuda" and current_platform.is_cpu()):
        raise _wrong(
            entry,
            "no CUDA device: look at nvidia-smi and CUDA_VISIBLE_DEVICES; on a machine without a "
            "GPU, set device: auto and run `make setup-vllm` for the CPU build",
        )


def failed_start(
    entry: VllmModel, what: str, error: BaseException, root_cause: Path
) -> ModelMisconfigured:
    """What an error of the engine says, or rather what its processes have logged.

    what: what the engine does, such as "does not start". root_cause: a file, empty where
    they have logged nothing.
    """
    why = root_cause.read_text() or f"{type(error).__name__}: {error}"
    why = _NOISE.sub("", " ".join(why.split()))
    remedies = (do for found, do in _REMEDIES if re.search(found, why))
    remedy = next(remedies, "") or _broken_file(entry)
    return _wrong(entry, f"its engine {what}: {why[:400]}{remedy and f': {remedy}'}")


def _broken_file(entry: VllmModel) -> str:
    """Which of the model's files cannot be read; empty if none. The libraries' errors name
    no file."""
    for folder in (entry.model_path, entry.tokenizer_path or entry.model_path):
        for path in sorted(folder.glob("*.json")):
            try:
                json.loads(path.read_bytes())
                if path.name == "tokenizer.json":
                    Tokenizer.from_file(str(path))
            except Exception as error:  # tokenizers raises nothing more special
                return f"{path} cannot be read ({error}): repair it or fetch it again"
    return ""


def _wrong(entry: VllmModel, what: str) -> ModelMisconfigured:
    return ModelMisconfigured(f"{entry.name}: {what} (configs/vllm_models.yaml)")
