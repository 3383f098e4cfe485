"""Weights that lie on a grid take 4 or 8 bits, and stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as ops
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from services.hf.openvino.compress import compress
from services.hf.openvino.exports import make_export
from services.hf.openvino.llama import build
from services.hf.openvino.verify import TOLERANCE, verify
from tests.support.tiny_models import make_checkpoint

RANDOM = np.random.default_rng(7)


def four_bits(rows: int, columns: int) -> Any:
    """Weights as a GGUF file of type Q4_1 has them, dequantized."""
    levels = RANDOM.integers(0, 16, (rows, columns // 32, 32))
    levels[..., :2] = 0, 15
    step, least = (
        RANDOM.normal(size=(rows, columns // 32, 1)).astype(np.float16).astype(np.float32) / 30
        for _ in range(2)
    )
    return (levels.astype(np.float32) * np.abs(step) + least).reshape(rows, columns)


def eight_bits(rows: int, columns: int) -> Any:
    """Weights as a GGUF file of type Q8_0 has them, dequantized."""
    levels = RANDOM.integers(-127, 128, (rows, columns // 32, 32))
    levels[..., 0] = 127
    step = RANDOM.normal(size=(rows, columns // 32, 1)).astype(np.float16).astype(np.float32)
    return (levels.astype(np.float32) * step / 64).reshape(rows, columns)


def constants(model: ov.Model) -> dict[str, int]:
    """The numbers that a model stores, by type."""
    counts: dict[str, int] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant":
            kind = node.get_element_type().get_type_name()
            counts[kind] = counts.get(kind, 0) + int(np.prod(list(node.get_output_shape(0))))
    return counts


def one_layer(weights: Any) -> ov.Model:
    states = ops.parameter([-1, weights.shape[1]], np.float32)
    return ov.Model([ops.matmul(states, ops.constant(weights), False, True)], [states])


@pytest.mark.parametrize(("make", "kind"), [(four_bits, "u4"), (eight_bits, "i8")])
def test_weights_on_a_grid_stay_what_they_are(make: Any, kind: str) -> None:
    weights = make(70, 128)
    weights[3] = 0.0
    weights[4] = 0.25
    model = one_layer(weights)
    assert compress(model) == 1
    assert constants(model)[kind] == weights.size
    unit = np.eye(128, dtype=np.float32)
    stored = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(unit)[0].T
    assert np.abs(stored - weights).max() < 1e-6 * np.abs(weights).max()


@pytest.mark.parametrize("moved", [1e-4, -1e-4])
def test_one_weight_off_the_grid_leaves_all_as_they_are(moved: float) -> None:
    weights = four_bits(2000, 64)
    weights[1999, 40] += moved
    model = one_layer(weights)
    assert compress(model) == 0
    assert constants(model) == {"f32": weights.size}


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that was made from a quantized file."""
    folder = make_checkpoint(tmp_path_factory.mktemp("q"), "llama", tie_word_embeddings=True)
    file = folder / "model.safetensors"
    weights = load_file(file)
    for name, values in weights.items():
        if values.ndim == 2:
            make = eight_bits if "embed" in name else four_bits
            weights[name] = make(*values.shape)
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def test_a_model_of_such_weights_equals_transformers(quantized: Path, tmp_path: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(quantized, dtype=torch.float32).eval()
    layers = sum(value.numel() for name, value in plain.named_parameters() if "proj" in name)
    exported = make_export(quantized, half=False)
    assert exported.difference is not None
    built = build(quantized)
    assert built is not None
    compress(built)
    ov.save_model(built, tmp_path / "model.xml", compress_to_fp16=False)
    for file in (exported.file, tmp_path / "model.xml"):
        counts = constants(ov.Core().read_model(file))
        assert (counts["u4"], counts["i8"]) == (layers, 400 * 64)
        assert verify(plain, file, 400) < TOLERANCE
