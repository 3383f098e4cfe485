"""A model without its weights, and which models can be read and run without torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from services.common.errors import ModelMisconfigured
from services.common.local.checks import is_embedded
from services.hf.config import HfModel

#: The dtypes of an entry that allow OpenVINO, which computes in float32.
_TYPES = ("auto", "float32")


@dataclass(frozen=True)
class Description:
    """What a model's files say.

    context_length: None if neither the files nor the entry give one.
    """

    tokenizer: Any
    context_length: int | None
    encoder_decoder: bool


def why_not_openvino(entry: HfModel, device: str) -> str:
    """Why the entry or the device excludes OpenVINO; empty if they do not."""
    if device != "cpu":
        return f"OpenVINO is for CPUs here, and this service uses {device}"
    if entry.dtype not in _TYPES:
        return f"its entry sets dtype: {entry.dtype}"
    if find_spec("openvino") is None:
        return "openvino is not installed: run `make setup`, or install the extra hf"
    return ""


def needs_torch(entry: HfModel, device: str) -> bool:
    """True unless it is the embedded model on OpenVINO, in exact precision."""
    folder = entry.model_path
    return (
        folder is None
        or not is_embedded(folder)
        or entry.engine == "transformers"
        or entry.precision == "fast"
        or bool(why_not_openvino(entry, device))
    )


def check_torch(entry: HfModel, device: str) -> None:
    """Raise ModelMisconfigured if the model needs torch or transformers and one is missing."""
    if not needs_torch(entry, device):
        return
    importlib.invalidate_caches()  # they may have been installed while this process runs
    if missing := [name for name in ("torch", "transformers") if find_spec(name) is None]:
        raise ModelMisconfigured(
            f"{entry.name} needs {' and '.join(missing)}, which the embedded model does not need "
            "and `make up` did not install: run `make setup WITH=torch`, or install the extra "
            "torch of arena-llm-services, then call again"
        )
