"""Loads a model on OpenVINO if it can run there."""

from __future__ import annotations

from pathlib import Path

from services.hf.config import HfModel
from services.hf.description import why_not_openvino
from services.hf.forward import LoadLimits, ModelCore


class Unfit(Exception):
    """The model cannot run on OpenVINO. The message says why."""


def load_model(entry: HfModel, folder: Path, device: str, limits: LoadLimits) -> ModelCore:
    """Load the weights in OpenVINO's form, which is made if the cache lacks it. Raises Unfit."""
    if reason := why_not_openvino(entry, device):
        raise Unfit(reason)
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
        raise Unfit(str(error)) from error
    except OSError as error:
        raise Unfit(f"its export cannot be written: {error}") from error
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
