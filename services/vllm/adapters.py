"""LoRA adapters: checked against their base, then loaded onto its engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
from safetensors import safe_open
from vllm.lora.request import LoRARequest

from services.common.errors import BackendError, ModelMisconfigured
from services.vllm.checks import check_adapter
from services.vllm.config import LoraAdapter, VllmModel
from services.vllm.engine import Engine

log = structlog.get_logger()

#: vLLM's LoRARequest for an adapter, or why it cannot be used.
Adapter = Any

_PREFIX = "base_model.model."


async def load_adapters(engine: Engine, entry: VllmModel) -> dict[str, Adapter]:
    """Load each adapter of an entry; by model name, what has become of it. What is wrong
    with one concerns neither the base nor the others."""
    return {
        lora.name: await _load(engine, entry.model_path, lora, number)
        for number, lora in enumerate(entry.lora, start=1)
    }


async def _load(engine: Engine, base: Path, lora: LoraAdapter, number: int) -> Adapter:
    try:
        check_adapter(lora)
        if misfit := next(_misfits(lora.path, base), None):
            raise ModelMisconfigured(_text(lora, misfit))
        adapter = LoRARequest(lora.name, number, str(lora.path))
        await engine.add_adapter(adapter)
        await engine.try_out(adapter)
    except BackendError as error:
        found = error
    except Exception as error:  # whatever is wrong with the adapter's files
        found = ModelMisconfigured(_text(lora, " ".join(str(error).split())[:400]))
    else:
        return adapter
    log.error("adapter", model=lora.name, reason=found.message)
    return found


def _text(lora: LoraAdapter, why: str) -> str:
    return f"{lora.name}: the adapter in {lora.path} does not fit its base: {why}"


def _misfits(adapter: Path, base: Path) -> Iterator[str]:
    """Where an adapter's matrices are of another size than the weights they change.

    vLLM takes smaller ones in silence and fills up with zeros. Of weights that are not in
    safetensors nothing is known.
    """
    weights = _shapes(base)
    if not weights:
        return
    for name, shape in _shapes(adapter).items():
        module, _, side = name.removeprefix(_PREFIX).rpartition(".lora_")
        expected = weights.get(f"{module}.weight")
        if side not in ("A.weight", "B.weight") or len(shape) != 2:
            continue
        if expected is None:
            yield f"the base has no {module}"
        elif side == "A.weight" and shape[1] != expected[1]:
            yield f"{module} takes {expected[1]} numbers, the adapter's {shape[1]}"
        elif side == "B.weight" and shape[0] != expected[0]:
            yield f"{module} gives {expected[0]} numbers, the adapter's {shape[0]}"


def _shapes(folder: Path) -> dict[str, list[int]]:
    """The shape of each tensor in a folder, without reading any."""
    shapes: dict[str, list[int]] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            names: list[str] = file.keys()
            shapes |= {name: file.get_slice(name).get_shape() for name in names}
    return shapes
