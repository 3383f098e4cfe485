"""Which files have a model's weights, and whether they fit the model. Does not import torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

from services.common.errors import ModelMisconfigured
from services.hf.config import HfModel

#: The names of weights that transformers loads, the first that exists; an index lists more files.
SAFE = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
#: Describes an adapter, which is only a change of another model's weights.
_ADAPTER = "adapter_config.json"

#: Buffers that old checkpoints have among their weights and that models compute by themselves.
_BUFFERS = re.compile(
    r"(^|\.)(rotary_emb\.inv_freq|position_ids|num_batches_tracked"
    r"|(attn|attention)\.(bias|masked_bias)|(encoder|decoder)\.version)$"
)
#: Most names in an error.
_NAMES = 3


def find_weights(folder: Path, *, allow_pickle: bool) -> list[str]:
    """The names of the weight files; empty if the folder has neither weights nor their index.

    The files of an index may be missing. Other files, such as consolidated.safetensors, have the
    same weights for another library.
    """
    for name in (*SAFE, *(PICKLED if allow_pickle else ())):
        if not (folder / name).exists():
            continue
        if not name.endswith(".json"):
            return [name]
        index = json.loads((folder / name).read_text(encoding="utf-8"))
        return sorted(set(index["weight_map"].values()))
    return []


def check_weights(entry: HfModel, folder: Path) -> None:
    """Raise ModelMisconfigured for a folder without usable weights."""

    def fail(why: str) -> ModelMisconfigured:
        return ModelMisconfigured(f"{entry.name}: {folder} {why}")

    if (folder / _ADAPTER).is_file():
        raise fail(
            f"is an adapter, because it has {_ADAPTER}, which this service would ignore: merge it "
            "into its base model (peft's merge_and_unload), or serve it as lora of a vllm model"
        )
    files = find_weights(folder, allow_pickle=entry.allow_pickle)
    if not files:
        if find_weights(folder, allow_pickle=True):
            raise fail(
                "has only pickled weights, which can contain code: set allow_pickle: true in the "
                "model's entry if you trust their origin"
            )
        raise fail(f"has no weights: neither {SAFE[0]} nor {SAFE[1]}")
    if absent := [name for name in files if not (folder / name).exists()]:
        raise fail(f"lacks weight files that its index lists: {_list(absent)}")


def check_fit(entry: HfModel, folder: Path, model: Any, report: dict[str, Any]) -> None:
    """Raise ModelMisconfigured unless the weights fill the model and the model uses all of them.

    report: transformers' loading info. Weights that are missing would be random numbers. Weights
    that are left over mean another model: further layers, or scales without which the others are
    wrong. Integers are the numbers of a quantization that config.json does not describe.
    """
    missing = _names(report, "missing_keys", "mismatched_keys")
    if missing:
        raise ModelMisconfigured(
            f"{entry.name}: the weights in {folder} do not fit its config.json: {_list(missing)}"
        )
    ignored: Callable[[str], Any] = re.compile("|".join(entry.ignore_weights) or "(?!)").fullmatch
    left = [
        name
        for name in _names(report, "unexpected_keys")
        if not _BUFFERS.search(name) and not ignored(name)
    ]
    if left:
        raise ModelMisconfigured(
            f"{entry.name}: the model of config.json does not use {len(left)} of the weights in "
            f"{folder}, so it is not the model that was saved: {_list(left)}; use the config.json "
            "that belongs to them (a quantized model's has its quantization_config), or name them "
            "in the entry's ignore_weights if the model works without them"
        )

    if getattr(model, "hf_quantizer", None) is None:
        floating = {name for name, part in model.named_parameters() if part.is_floating_point()}
        if integers := sorted(floating.intersection(_find_integers(entry, folder))):
            raise ModelMisconfigured(
                f"{entry.name}: the weights in {folder} are integers, so they are quantized, but "
                f"its config.json has no quantization_config of a known kind: {_list(integers)}"
            )


def _find_integers(entry: HfModel, folder: Path) -> Iterator[str]:
    """The names of weights that are stored as integers."""
    for file in find_weights(folder, allow_pickle=entry.allow_pickle):
        if file.endswith(".safetensors"):
            with safe_open(folder / file, "numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                    if tensors.get_slice(name).get_dtype()[0] in "IU":
                        yield name


def _names(report: dict[str, Any], *keys: str) -> list[str]:
    return [name for key in keys for name in sorted(map(str, report.get(key) or ()))]


def _list(names: Iterable[str]) -> str:
    names = [*names]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more
