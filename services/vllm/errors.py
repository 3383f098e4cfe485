"""What is wrong with a model's entry, before or after its engine has started, and how to fix it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import safe_open
from tokenizers import Tokenizer

from services.common.errors import ModelMisconfigured
from services.common.local.checks import check_model_folder
from services.vllm.config import LoraAdapter, VllmModel

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt")

_LORA_PREFIX = "base_model.model."

#: Parts of pydantic's errors to leave out: all arguments, labels, and where to read about pydantic.
_NOISE = re.compile(
    r" ?\[type=\w+, input_value=ArgsKwargs.*?, input_type=ArgsKwargs\]"
    r"| ?For further information visit \S+"
    r"|\bValue error, "
)

#: A pattern in the error of a failed start, and how to fix it.
_REMEDIES = (
    (
        r"Free memory on device",
        "another process or engine uses the GPU's memory: stop it, or lower "
        "engine_args.gpu_memory_utilization",
    ),
    (
        r"No available memory for the cache blocks|KV cache is needed|larger than the available",
        "lower engine_args.max_model_len, or allow more memory: "
        "engine_args.gpu_memory_utilization, on a CPU engine_args.kv_cache_memory_bytes",
    ),
    (
        r"out of memory|OutOfMemory|Cannot allocate memory",
        "the model does not fit in memory: use a larger GPU, or set "
        "engine_args.tensor_parallel_size or quantization",
    ),
    (
        r"[Ww]orld size|tensor.parallel|device ordinal|number of GPUs",
        "set engine_args.tensor_parallel_size to the number of GPUs of this machine",
    ),
)


def check_files(entry: VllmModel) -> None:
    """Raise ModelMisconfigured if the model, its tokenizer or its chat template is missing."""
    check_model_folder(entry.name, entry.model_path)
    folder = entry.tokenizer_path or entry.model_path
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelMisconfigured(
            f"{entry.name}: {folder} has no tokenizer: set tokenizer_path to a folder with one"
        )
    if entry.chat_template is not None and not entry.chat_template.is_file():
        raise ModelMisconfigured(
            f"{entry.name}: there is no file {entry.chat_template}: correct its chat_template"
        )


def check_adapter_folder(adapter: LoraAdapter) -> None:
    """Raise ModelMisconfigured unless the folder has an adapter_config.json."""
    if not (adapter.path / "adapter_config.json").is_file():
        raise ModelMisconfigured(
            f"{adapter.name}: {adapter.path} is not a LoRA adapter, because it has no "
            "adapter_config.json: correct its path"
        )


def check_adapter_shapes(adapter: LoraAdapter, base: Path) -> None:
    """Raise ModelMisconfigured if the adapter's matrices do not fit the weights of its base.

    vLLM accepts smaller matrices and fills them up with zeros. Only safetensors are checked.
    """
    for mismatch in _mismatches(adapter.path, base):
        raise make_misfit_error(adapter, mismatch)


def make_misfit_error(adapter: LoraAdapter, why: str) -> ModelMisconfigured:
    """The error of an adapter that cannot be loaded onto its base."""
    return ModelMisconfigured(
        f"{adapter.name}: the adapter in {adapter.path} does not fit its base: {why}"
    )


def check_device(entry: VllmModel) -> None:
    """Raise ModelMisconfigured if this vLLM finds no device that the entry allows."""
    from vllm.platforms import current_platform

    if current_platform.is_unspecified() or (entry.device == "cuda" and current_platform.is_cpu()):
        raise ModelMisconfigured(
            f"{entry.name}: no CUDA device: look at nvidia-smi and CUDA_VISIBLE_DEVICES; on a "
            "machine without a GPU, set device: auto and run `make setup-vllm` for the CPU build"
        )


def explain_start_failure(
    entry: VllmModel, what: str, error: BaseException, root_cause: Path
) -> ModelMisconfigured:
    """The error of an engine that failed to start, with a fix if one is known.

    what: what failed, such as "does not start". root_cause: the file in which the engine's
    processes have written their first error; empty if there was none. It takes precedence
    over `error`.
    """
    why = root_cause.read_text() or f"{type(error).__name__}: {error}"
    why = _NOISE.sub("", " ".join(why.split()))
    remedies = (remedy for pattern, remedy in _REMEDIES if re.search(pattern, why))
    remedy = next(remedies, "") or _find_broken_file(entry)
    return ModelMisconfigured(
        f"{entry.name}: its engine {what}: {why[:400]}{remedy and f': {remedy}'}"
    )


def _find_broken_file(entry: VllmModel) -> str:
    """Which of the model's files cannot be read; empty if all can.

    The libraries' own errors do not name the file.
    """
    for folder in (entry.model_path, entry.tokenizer_path or entry.model_path):
        for path in sorted(folder.glob("*.json")):
            try:
                json.loads(path.read_bytes())
                if path.name == "tokenizer.json":
                    Tokenizer.from_file(str(path))
            except Exception as error:  # tokenizers raises plain Exceptions
                return f"{path} cannot be read ({error}): repair it or download it again"
    return ""


def _mismatches(adapter: Path, base: Path) -> Iterator[str]:
    weights = _tensor_shapes(base)
    if not weights:
        return
    for name, shape in _tensor_shapes(adapter).items():
        module, _, side = name.removeprefix(_LORA_PREFIX).rpartition(".lora_")
        if side not in ("A.weight", "B.weight") or len(shape) != 2:
            continue
        size = _find_size(weights, module)
        if size is None:
            yield f"the base has no {module}"
            continue
        kind, expected, found = (
            ("inputs", size[0], shape[1]) if side == "A.weight" else ("outputs", size[1], shape[0])
        )
        if expected not in (None, found):
            yield f"{module} has {expected} {kind}, the adapter {found}"


def _find_size(
    weights: Mapping[str, list[int]], module: str
) -> tuple[int | None, int | None] | None:
    """The inputs and outputs of a module of the base; None if the base does not have it.

    A number is None if a quantized checkpoint does not have it. The names are those of AWQ, GPTQ,
    compressed-tensors and bitsandbytes.
    """
    tensors = {
        name: weights.get(f"{module}.{name}", [])
        for name in ("weight", "weight_shape", "weight_packed", "qweight", "qzeros")
    }
    if whole := tensors["weight_shape"]:
        return whole[1], whole[0]
    if packed := tensors["weight_packed"]:
        return None, packed[0]
    scales = weights.get(f"{module}.scales", [])
    if (packed := tensors["qweight"]) and scales and (zeros := tensors["qzeros"]):
        outputs = scales[-1]
        # GPTQ packs the inputs, AWQ the outputs.
        factor = outputs / zeros[-1] if packed[1] == outputs else 1
        return round(packed[0] * factor), outputs
    weight = tensors["weight"]
    if len(weight) == 2 and f"{module}.weight.absmax" not in weights:
        return weight[1], weight[0]
    known = any(name.startswith(f"{module}.") for name in weights)
    return (None, None) if known else None


def _tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """The shape of each tensor in a folder's safetensors, without reading the tensors.

    A tensor `weight_shape` of compressed-tensors is itself a shape.
    """
    shapes: dict[str, list[int]] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            names: list[str] = file.keys()
            for name in names:
                shape: list[int] = file.get_slice(name).get_shape()
                if name.endswith(".weight_shape"):
                    shape = file.get_tensor(name).tolist()
                shapes[name] = shape
    return shapes
