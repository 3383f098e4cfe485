"""Loads a model on OpenVINO if it can run there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from services.common.errors import ModelMisconfigured
from services.common.log import log
from services.hf.config import HfModel
from services.hf.forward import Forward

#: Types that a float32 export stands for; the others are for GPUs, or for a purpose of their own.
_TYPES = ("auto", "float32")


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """What the service's configuration says about every model. See HfConfig."""

    step_tokens: int
    max_cache_tokens: int = 65_536
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class ModelCore:
    """The forward pass of a model, and what it says about itself.

    embedded: how many token ids it can read. tokens: how many it can read and write. ends: the
    end tokens of its generation config. size: bytes of its weights. note: why it does not run on
    OpenVINO, or empty.
    """

    forward: Forward
    embedded: int
    tokens: int
    ends: tuple[int, ...]
    size: int
    precision: str
    engine: str
    note: str = ""


class _Unfit(Exception):
    """The model cannot run on OpenVINO. The message says why."""


def load_core(
    entry: HfModel,
    folder: Path,
    device: str,
    context: int,
    limits: LoadLimits,
    load_transformers: Callable[[str], ModelCore],
) -> ModelCore:
    """The model on the engine that its entry asks for.

    auto: OpenVINO on a CPU, if an export of the model equals transformers. device: cpu or cuda.
    context: the model's context length. load_transformers: gets the note.
    Raises ModelMisconfigured if the entry asks for OpenVINO and the model cannot run there.
    """
    if entry.engine == "transformers":
        return load_transformers("")
    try:
        return _load_export(entry, folder, device, context, limits)
    except _Unfit as error:
        if entry.engine == "openvino":
            raise ModelMisconfigured(
                f"{entry.name} cannot run on OpenVINO: {error}; set engine: transformers in its "
                "entry"
            ) from error
        log.info("transformers", model=entry.name, reason=str(error))
        return load_transformers(f"runs on transformers: {error}")


def _load_export(
    entry: HfModel, folder: Path, device: str, context: int, limits: LoadLimits
) -> ModelCore:
    if device != "cpu":
        raise _Unfit(f"OpenVINO is for CPUs here, and this service uses {device}")
    if entry.dtype not in _TYPES:
        raise _Unfit(f"its entry sets dtype: {entry.dtype}")
    if find_spec("openvino") is None:
        raise _Unfit("openvino is not installed: run `make setup`")
    # Imported here, because a machine with a GPU needs no openvino.
    import openvino

    from services.hf.openvino.compiled import CompiledModel, count_blocks
    from services.hf.openvino.exports import ExportRefused, make_export
    from services.hf.openvino.forward import SCORING_BLOCKS, PagedForward

    fast = entry.precision == "fast"
    try:
        export = make_export(
            folder,
            half=fast,
            trust_remote_code=entry.trust_remote_code,
            allow_pickle=entry.allow_pickle,
            ignore_weights=entry.ignore_weights,
        )
    except ExportRefused as error:
        raise _Unfit(str(error)) from error
    except OSError as error:
        raise _Unfit(f"its export cannot be written: {error}") from error
    prefix_bytes = int(entry.prefix_cache_gb * 1e9)
    model = CompiledModel(export.file, export.tokens, entry.precision, limits.threads)
    # Rows, the longest prompt beside them, and the prefixes.
    tokens = max(limits.max_cache_tokens, context) + context
    model.allocate(count_blocks(tokens) + SCORING_BLOCKS + prefix_bytes // model.block_bytes)
    return ModelCore(
        forward=PagedForward(model, limits.step_tokens, prefix_bytes),
        embedded=export.embedded,
        tokens=export.tokens,
        ends=export.end_tokens,
        size=export.size,
        precision="fast" if fast else "fp32",
        engine=f"openvino {openvino.__version__.partition('-')[0]}",
    )
