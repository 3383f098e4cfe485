"""Loads a model on OpenVINO if it can run there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from services.common.errors import ModelMisconfigured
from services.common.log import log
from services.hf.config import HfModel
from services.hf.description import Description, why_not_openvino
from services.hf.forward import Forward


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """What the service's configuration says about every model. See HfConfig.

    cache_bytes: the most that rows of one model can ever take.
    """

    step_tokens: int
    cache_bytes: int = 1 << 28
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class ModelCore:
    """The forward pass of a model, and what it says about itself.

    embedded: how many token ids it can read. tokens: how many it can read and write. ends: the end
    tokens of its generation config. suppressed: tokens that it never writes. size: bytes of its
    weights. note: why it does not run on OpenVINO, or empty. file: the weights, if the process
    maps them.
    """

    forward: Forward
    embedded: int
    tokens: int
    ends: tuple[int, ...]
    suppressed: tuple[int, ...]
    size: int
    precision: str
    engine: str
    note: str = ""
    file: Path | None = None


class _Unfit(Exception):
    """The model cannot run on OpenVINO. The message says why."""


def load_core(
    entry: HfModel, folder: Path, device: str, limits: LoadLimits, description: Description
) -> ModelCore:
    """The model on the engine that its entry asks for.

    auto: OpenVINO on a CPU, if it computes there what transformers does. device: cpu or cuda.
    Raises ModelMisconfigured if the entry asks for OpenVINO and the model cannot run there.
    """
    reason = ""
    if entry.engine != "transformers":
        try:
            return _load_openvino(entry, folder, device, limits, description)
        except _Unfit as error:
            if entry.engine == "openvino":
                raise ModelMisconfigured(
                    f"{entry.name} cannot run on OpenVINO: {error}; set engine: transformers in "
                    "its entry"
                ) from error
            reason = f"runs on transformers: {error}"
            log.info("transformers", model=entry.name, reason=str(error))
    # Imported here, because it imports torch.
    from services.hf import transformers_model

    core = transformers_model.load_model(entry, folder, device, limits, description)
    return replace(core, note="; ".join(filter(None, (reason, core.note))))


def _load_openvino(
    entry: HfModel, folder: Path, device: str, limits: LoadLimits, description: Description
) -> ModelCore:
    if reason := why_not_openvino(entry, device):
        raise _Unfit(reason)
    # Imported here, because a machine with a GPU needs no openvino.
    import openvino

    from services.hf.openvino.compiled import CompiledModel
    from services.hf.openvino.exports import ExportRefused, make_export
    from services.hf.openvino.forward import SCORING_BLOCKS, PagedForward

    fast = entry.precision == "fast"
    try:
        export = make_export(
            folder,
            # Over weights of 4 bits, the kernels of bfloat16 depend on the number of tokens.
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
    prefix_blocks = prefix_bytes // model.block_bytes
    model.allocate(limits.cache_bytes // model.block_bytes + SCORING_BLOCKS + prefix_blocks + 1)
    return ModelCore(
        forward=PagedForward(model, limits.step_tokens, prefix_bytes),
        embedded=export.embedded,
        tokens=export.tokens,
        ends=export.end_tokens,
        suppressed=export.suppressed,
        size=export.size,
        precision="fast" if fast else "fp32",
        engine=f"openvino {openvino.__version__.partition('-')[0]}",
        file=export.file.with_suffix(".bin"),
    )
