"""Checks that every local engine needs: model folders and computed numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from services.common.errors import ModelMisconfigured

#: Names that architectures give to their context length in config.json.
CONTEXT_LENGTH_KEYS = (
    *("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"),
    *("max_encoder_position_embeddings", "max_decoder_position_embeddings", "context_length"),
)

EMBEDDED_NAME = "smollm2-135m-instruct"


def cache_folder() -> Path:
    """The folder of what can be made again: $ARENA_CACHE_DIR, default ./.cache"""
    return Path(os.environ.get("ARENA_CACHE_DIR") or ".cache")


def embedded_folder() -> Path:
    """The folder of the embedded model: models/... in the cache."""
    return cache_folder() / "models" / EMBEDDED_NAME


def is_embedded(folder: Path) -> bool:
    """True for the folder of the embedded model."""
    return folder.resolve() == embedded_folder().resolve()


def check_model_folder(name: str, folder: Path) -> None:
    """Raise ModelMisconfigured unless the folder has a config.json."""
    if (folder / "config.json").is_file():
        return
    fix = "correct its model_path"
    if (folder / "adapter_config.json").is_file():
        fix = "it is an adapter, which has to be merged into its base model"
    elif is_embedded(folder):
        fix = "run `make up`, which prepares the embedded model"
    raise ModelMisconfigured(
        f"{name}: model_path {folder.absolute()} is not a model folder, because it has no "
        f"config.json: {fix}"
    )


#: torch's names of types -> the usual short ones.
_PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def describe_precision(dtype: object, quantization: str | None = None) -> str:
    """The precision of weights, such as "bf16". quantization: the method, if they have one."""
    name = str(dtype).removeprefix("torch.")
    return quantization or _PRECISIONS.get(name, name)


def read_revision(folder: Path) -> str:
    """The commit of a folder of the hub's cache; empty for another folder."""
    folder = folder.absolute()
    return folder.name if folder.parent.name == "snapshots" else ""


def make_not_finite_error(model: str) -> ModelMisconfigured:
    """The error of a call whose logits have NaN or infinity."""
    return ModelMisconfigured(
        f"{model} computes NaN or infinity in place of probabilities: its weights are damaged, or "
        "they overflow in float16; fetch them again, or set a dtype of bfloat16 or float32"
    )


def check_sums(model: str, sums: Sequence[float]) -> None:
    """Raise ModelMisconfigured for a log-probability of NaN or +inf.

    A model that excludes a token correctly gives it -inf.
    """
    if any(math.isnan(logprob) or logprob == math.inf for logprob in sums):
        raise make_not_finite_error(model)
