"""Exports a plain Llama without torch: `python -m services.hf.openvino.llama FOLDER TARGET`.

For the embedded model, whose weights come from its GGUF file if the folder has none. The graph is
that of https://arxiv.org/abs/2302.13971, section 2.2. Tests compare it with transformers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from safetensors.numpy import load_file

from services.hf.embedded import read_weights
from services.hf.openvino.compress import compress
from services.hf.openvino.operator import Attention, mark

#: Settings of config.json, and the only value with which this graph is right.
_PLAIN = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
}
_EXPECTED_BY_DEFAULT = ("hidden_act", "attention_bias", "mlp_bias")


def build(folder: Path) -> ov.Model | None:
    """The model of a checkpoint; None if it is not a plain Llama with weights of float32."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name, value in _PLAIN.items():
        default = value if name in _EXPECTED_BY_DEFAULT else None
        if config.get(name, default) != value:
            return None
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type") != "default":
        return None
    file = folder / "model.safetensors"
    weights = load_file(file) if file.exists() else read_weights()
    if any(values.dtype != np.float32 for values in weights.values()):
        return None
    return _Llama(config, weights).build()


class _Llama:
    """The parts of the graph. Tokens are flat: states are [tokens, size]."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        self._weights = weights
        self._layers: int = config["num_hidden_layers"]
        self._heads: int = config["num_attention_heads"]
        self._kv_heads: int = config["num_key_value_heads"]
        self._size: int = config.get("head_dim") or config["hidden_size"] // self._heads
        self._epsilon = _floats(config["rms_norm_eps"])
        theta = config["rope_parameters"]["rope_theta"]
        powers = np.arange(0, self._size, 2, dtype=np.float32) / self._size
        self._frequencies = ops.constant((1.0 / theta**powers).astype(np.float32)[None, None])

    def build(self) -> ov.Model:
        ids, positions, sampled = (
            _input(name) for name in ("input_ids", "position_ids", "sampled")
        )
        embeddings = self._weight("model.embed_tokens.weight")
        states = ops.gather(embeddings, ids, _ints(0))
        angles = ops.multiply(
            ops.unsqueeze(ops.convert(positions, "f32"), _ints([1, 2])), self._frequencies
        )
        # The two halves of a head turn in opposite directions.
        sines = ops.sin(angles)
        turn = (
            ops.concat([ops.cos(angles)] * 2, 2),
            ops.concat([ops.multiply(sines, _floats(-1.0)), sines], 2),
        )
        for layer in range(self._layers):
            name = f"model.layers.{layer}"
            normed = self._norm(states, f"{name}.input_layernorm.weight")
            states = ops.add(states, self._attend(normed, turn, layer, f"{name}.self_attn"))
            normed = self._norm(states, f"{name}.post_attention_layernorm.weight")
            states = ops.add(states, self._feed_forward(normed, f"{name}.mlp"))
        # Only the wanted places: the output layer is as large as the vocabulary.
        states = self._norm(ops.gather(states, sampled, _ints(0)), "model.norm.weight")
        logits = ops.matmul(states, embeddings, False, True)
        return ov.Model([logits], [ids, positions, sampled])

    def _attend(self, states: Any, turn: tuple[Any, Any], layer: int, name: str) -> Any:
        size, turned = self._size, self._heads + self._kv_heads
        joined = self._linear(states, *(f"{name}.{part}_proj.weight" for part in "qkv"))
        keyed, value = _split(joined, turned * size)
        shaped = ops.reshape(keyed, _ints([0, turned, size]), True)
        flat = ops.reshape(_rotate(shaped, turn), _ints([0, turned * size]), True)
        query, key = _split(flat, self._heads * size)
        attention = Attention(layer, size**-0.5, 0, self._heads, self._kv_heads, size, size)
        return self._linear(mark(query, key, value, attention), f"{name}.o_proj.weight")

    def _feed_forward(self, states: Any, name: str) -> Any:
        names = f"{name}.gate_proj.weight", f"{name}.up_proj.weight"
        gate, values = _split(self._linear(states, *names), len(self._weights[names[0]]))
        return self._linear(ops.multiply(ops.swish(gate), values), f"{name}.down_proj.weight")

    def _norm(self, states: Any, name: str) -> Any:
        mean = ops.reduce_mean(ops.power(states, _floats(2.0)), _ints([-1]), True)
        root = ops.power(ops.sqrt(ops.add(mean, self._epsilon)), _floats(-1.0))
        return ops.multiply(ops.multiply(states, root), self._weight(name))

    def _linear(self, states: Any, *names: str) -> Any:
        """The outputs of layers with the same input, one after the other: one large layer."""
        joined = np.concatenate([self._weights[name] for name in names])
        return ops.matmul(states, ops.constant(joined), False, True)

    def _weight(self, name: str) -> Any:
        return ops.constant(self._weights[name], shared_memory=True)


def _rotate(states: Any, turn: tuple[Any, Any]) -> Any:
    """Turn the pairs (i, i + size / 2) of each head by the angles of the position."""
    first, second = ops.split(states, _ints(2), 2).outputs()
    cosines, sines = turn
    swapped = ops.concat([second, first], 2)
    return ops.add(ops.multiply(states, cosines), ops.multiply(swapped, sines))


def _split(states: Any, first: int) -> Any:
    """The first columns, and the others."""
    return ops.variadic_split(states, _ints(1), _ints([first, -1])).outputs()


def _input(name: str) -> Any:
    parameter = ops.parameter([-1], np.int64, name=name)
    parameter.output(0).set_names({name})
    return parameter


def _ints(value: Any) -> Any:
    return ops.constant(np.array(value, np.int64))


def _floats(value: float) -> Any:
    return ops.constant(np.float32(value))


def main(folder: Path, target: Path) -> None:
    """Write the model to `target` and print the facts of the export, as export.py does."""
    model = build(folder)
    if model is None:
        facts: dict[str, Any] = {"refused": "it is not a plain Llama"}
    else:
        compress(model)
        ov.save_model(model, target / "model.xml", compress_to_fp16=False)
        ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
        vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
        facts = {
            "embedded": vocabulary,
            "tokens": vocabulary,
            "end_tokens": ends if isinstance(ends, list) else [ends],
            "suppressed": [],
            "size": (target / "model.bin").stat().st_size,
            "half": False,
            "difference": None,
        }
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
