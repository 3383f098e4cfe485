"""OpenVINO's operator for paged attention, and the marker that stands for it in an export.

The operator keeps the keys and values of all rows in blocks, and reads a flat list of tokens of any
rows. It is private API: pyproject.toml pins the release, and tests/unit/hf/openvino says what
broke when the pin is raised. OpenVINO can write a model with the operator, but not read it again.
So an export has a marker for each layer, and loading replaces the markers.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import op
from openvino import opset13 as ops

#: Tokens of one block. The CPU plugin decides it.
BLOCK = 32

_KIND = "VariadicSplit"
_PREFIX = "arena-llm paged attention "

#: What each row of a pass needs, beside its tokens; see compiled.py.
ROW_INPUTS = ("past_lens", "subsequence_begins", "block_indices", "block_indices_begins")
MAX_LENGTH = "max_context_len"
KEYS, VALUES = "key_cache.", "value_cache."


@dataclass(frozen=True, slots=True)
class Attention:
    """The attention of one layer.

    window: the last tokens that it reads; 0: all. heads: of the queries. kv_heads: of the keys and
    values. key_size, value_size: numbers of one head.
    """

    layer: int
    scale: float
    window: int
    heads: int
    kv_heads: int
    key_size: int
    value_size: int


def mark(query: Any, key: Any, value: Any, attention: Attention) -> Any:
    """A marker over [tokens, heads * size] each. Its output has the shape of the query."""
    joined = ops.concat([query, key, value], 1)
    parts = ops.constant(np.array([attention.heads * attention.key_size, -1], np.int64))
    marker = ops.variadic_split(joined, ops.constant(np.int64(1)), parts)
    marker.set_friendly_name(_PREFIX + json.dumps(asdict(attention)))
    return marker.output(0)


def install(model: ov.Model) -> list[Attention]:
    """Replace every marker of a model by the operator. Returns the layers' attentions.

    The model gets the inputs of ROW_INPUTS, MAX_LENGTH, and KEYS and VALUES of each layer.
    """
    rows = {name: _input(name, [-1]) for name in ROW_INPUTS}
    longest = _input(MAX_LENGTH, [])
    inputs, layers = [*rows.values(), longest], []
    for node in model.get_ordered_ops():
        name = node.get_friendly_name()
        if node.get_type_name() != _KIND or not name.startswith(_PREFIX):
            continue
        attention = Attention(**json.loads(name.removeprefix(_PREFIX)))
        shape = ov.PartialShape([-1, attention.kv_heads, -1, -1])
        # The plugin decides the type and the rest of the shape while it compiles.
        caches = [
            _input(f"{kind}{attention.layer}", shape, ov.Type.dynamic) for kind in (KEYS, VALUES)
        ]
        joined = node.input_value(0).get_node()
        states = [joined.input_value(place) for place in range(3)]
        operator = _operator(attention, states, caches, [*rows.values()], longest)
        node.output(0).replace(operator.output(0))
        inputs += caches
        layers.append(attention)
    model.add_parameters(inputs)
    model.validate_nodes_and_infer_types()
    return layers


def _operator(
    attention: Attention, states: list[Any], caches: list[Any], rows: list[Any], longest: Any
) -> Any:
    """The operator, with all its inputs in their order (OpenVINO 2026.4.1)."""
    none, no_floats = _constant([], np.int32), _constant([], np.float32)
    zero = _constant(0, np.int32)
    arguments = [
        *states,
        *caches,
        *rows,
        _constant(attention.scale, np.float32),
        _constant(attention.window, np.int32),
        no_floats,  # slopes of ALiBi
        longest,
        none,  # window of the scores
        *(none, none, no_floats),  # rotation of cached keys
        *(no_floats, zero, zero),  # sparse attention
        no_floats,  # sinks
        *(zero, none, none, none),  # eviction by diversity
        none,  # types of tokens
        *(_constant([], np.uint8), none),  # bias between queries
    ]
    operator = op._PagedAttentionExtension(
        [part if isinstance(part, ov.Output) else part.output(0) for part in arguments]
    )
    facts = operator.get_rt_info()
    facts["num_k_heads"] = facts["num_v_heads"] = attention.kv_heads
    facts["k_head_size"], facts["v_head_size"] = attention.key_size, attention.value_size
    return operator


def _constant(value: Any, dtype: Any) -> Any:
    return ops.constant(np.array(value, dtype))


def _input(name: str, shape: Any, dtype: Any = np.int32) -> Any:
    parameter = ops.parameter(shape, dtype, name=name)
    parameter.output(0).set_names({name})
    return parameter
