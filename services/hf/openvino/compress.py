"""Stores weights in 4 or 8 bits where that changes none of them.

The weights of a checkpoint that was made from a quantized file, such as a GGUF file, lie on a grid:
each group of 32 in a row has at most 16 or 256 levels at equal distances. OpenVINO reads them much
faster in this form, because a step that decodes a few rows is bound by the memory it reads. It
computes with the same float32 values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as ops

#: Weights of a row that have a scale and an offset of their own.
_GROUP = 32
#: How far a weight may move, as a share of the largest one of its group: the rounding of the few
#: operations of float32 that make it.
_ROUNDING = 2.0**-21
#: Rows that are looked at together: the work takes several times their memory.
_ROWS = 1024

Floats = npt.NDArray[np.float32]


def compress(model: ov.Model) -> int:
    """Replace the weights of a model that lie on a grid. Returns how many it replaced."""
    replaced = 0
    for node in model.get_ordered_ops():
        if not _is_weight(node):
            continue
        packed = _pack(node.data)
        if packed is not None:
            for target in [*node.output(0).get_target_inputs()]:
                target.replace_source_output(packed)
            replaced += 1
    model.validate_nodes_and_infer_types()
    return replaced


def _is_weight(node: Any) -> bool:
    """True for weights [outputs, inputs] of linear layers, and for embeddings."""
    if node.get_type_name() != "Constant" or node.get_element_type() != ov.Type.f32:
        return False
    shape = list(node.get_output_shape(0))
    users = [target.get_node() for target in node.output(0).get_target_inputs()]
    return (
        len(shape) == 2
        and shape[1] % _GROUP == 0
        and all(
            user.get_type_name() == "Gather"
            or (user.get_type_name() == "MatMul" and user.get_attributes()["transpose_b"])
            for user in users
        )
    )


def _pack(weights: Floats) -> Any:
    """Return a graph that computes the weights from 4 or 8 bits; None if no such grid fits."""
    groups = weights.reshape(len(weights), -1, _GROUP)
    for find in (_four_bits, _eight_bits):
        parts = []
        for begin in range(0, len(groups), _ROWS):
            part = find(groups[begin : begin + _ROWS])
            if part is None:
                break
            parts.append(part)
        else:
            levels, steps, zeros = (np.concatenate(found) for found in zip(*parts, strict=True))
            values = ops.convert(_constant(levels), "f32")
            if zeros.any():
                values = ops.subtract(values, ops.constant(zeros))
            values = ops.multiply(values, ops.constant(steps))
            shape = ops.constant(np.array(weights.shape, np.int64))
            return ops.reshape(values, shape, False).output(0)
    return None


def _constant(levels: npt.NDArray[Any]) -> Any:
    if levels.dtype == np.int8:
        return ops.constant(levels)
    flat = levels.reshape(-1)
    tensor = ov.Tensor(flat[0::2] | (flat[1::2] << 4), ov.Shape([*levels.shape]), ov.Type.u4)
    return ops.constant(tensor, shared_memory=False)


#: Levels [rows, groups, 32], the steps between two [rows, groups, 1], and the levels of zero.
Grid = tuple[npt.NDArray[Any], Floats, Floats]


def _four_bits(groups: Floats) -> Grid | None:
    """16 levels from the least weight to the largest one."""
    least = groups.min(axis=2, keepdims=True)
    steps = _nonzero((groups.max(axis=2, keepdims=True) - least) / 15)
    return _grid(groups, np.rint((groups - least) / steps).astype(np.uint8), steps, -least / steps)


def _eight_bits(groups: Floats) -> Grid | None:
    """Levels from -127 to 127 around zero."""
    steps = _nonzero(np.abs(groups).max(axis=2, keepdims=True) / 127)
    levels = np.rint(groups / steps).astype(np.int8)
    return _grid(groups, levels, steps, np.zeros_like(steps))


def _grid(groups: Floats, levels: npt.NDArray[Any], steps: Floats, zeros: Floats) -> Grid | None:
    """The grid, if every weight lies on it."""
    moved = np.abs((levels - zeros) * steps - groups)
    scale = np.abs(groups).max(axis=2, keepdims=True)
    return (levels, steps, zeros) if (moved <= _ROUNDING * scale).all() else None


def _nonzero(steps: Floats) -> Floats:
    return np.where(steps == 0, np.float32(1), steps)
