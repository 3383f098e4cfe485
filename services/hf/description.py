"""What a model's files say, and which models can be read and run without torch."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from services.common.errors import ModelMisconfigured
from services.common.local.checks import is_embedded
from services.hf.config import HfModel
from services.hf.context import read_context_length

#: Types that float32 on OpenVINO stands for; the others are for GPUs, or for their own purposes.
_TYPES = ("auto", "float32")


@dataclass(frozen=True)
class Description:
    """A model without its weights.

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
        return "openvino is not installed: run `make setup`"
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
            "and `make up` did not install: run `make setup WITH=torch`, then call again"
        )


def describe(entry: HfModel, folder: Path, device: str) -> Description:
    """What the files of a folder say. Imports torch if the model needs it."""
    from services.hf.tokenizer import read_tokenizer  # `make up` needs only the functions above

    if not needs_torch(entry, device) and (tokenizer := read_tokenizer(folder)) is not None:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return Description(tokenizer, read_context_length(entry, _Config(**settings)), False)
    from services.hf import transformers_model

    return transformers_model.describe(entry, folder)


class _Config(SimpleNamespace):
    """The settings of config.json, as transformers gives them."""

    def get_text_config(self, decoder: bool) -> _Config:
        return self
