"""OpenVINO's private operator does what we need: after a change of the pin, what broke."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from services.hf.openvino.compiled import _SETTINGS, Chunk, CompiledModel
from services.hf.openvino.operator import BLOCK, Attention, install, mark

ROOT = Path(__file__).parents[4]
HEADS, KV_HEADS, SIZE = 4, 2, 16
VOCABULARY = 8


def write(folder: Path, window: int = 0) -> tuple[Path, np.ndarray[Any, Any]]:
    """A model of one layer: random states of each token id, attention, and a random output."""
    random = np.random.default_rng(0)
    width = (HEADS + 2 * KV_HEADS) * SIZE
    table = random.normal(size=(50, width)).astype(np.float32)
    ids, positions, sampled = (
        ops.parameter([-1], np.int64, name=name)
        for name in ("input_ids", "position_ids", "sampled")
    )
    for parameter in (ids, positions, sampled):
        parameter.output(0).set_names({parameter.get_friendly_name()})
    zero = ops.constant(np.int64(0))
    states = ops.gather(ops.constant(table), ids, zero)
    sizes = ops.constant(np.array([HEADS * SIZE, KV_HEADS * SIZE, KV_HEADS * SIZE], np.int64))
    parts = ops.variadic_split(states, ops.constant(np.int64(1)), sizes)
    attention = Attention(0, SIZE**-0.5, window, HEADS, KV_HEADS, SIZE, SIZE)
    marked = mark(parts.output(0), parts.output(1), parts.output(2), attention)
    kept = ops.gather(
        ops.gather(
            marked,
            ops.range(
                zero, ops.gather(ops.shape_of(marked), zero, zero), ops.constant(np.int64(1)), "i64"
            ),
            zero,
        ),
        sampled,
        zero,
    )
    unused = ops.multiply(
        ops.convert(ops.reduce_sum(positions, zero), "f32"), ops.constant(np.float32(0))
    )
    model = ov.Model([ops.add(kept, unused)], [ids, positions, sampled])
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml", table


def attend(table: Any, tokens: list[int], window: int) -> Any:
    """Plain attention over a text: [tokens, heads * size]."""
    states = table[tokens]
    query, key, value = np.split(states, [HEADS * SIZE, (HEADS + KV_HEADS) * SIZE], axis=1)
    query = query.reshape(-1, HEADS, SIZE)
    key, value = (
        np.repeat(part.reshape(-1, KV_HEADS, SIZE), HEADS // KV_HEADS, axis=1)
        for part in (key, value)
    )
    scores = np.einsum("qhs,khs->hqk", query, key) * SIZE**-0.5
    places = np.arange(len(tokens))
    hidden = places[None, :] > places[:, None]
    if window:
        hidden |= places[None, :] <= places[:, None] - window
    scores[:, hidden] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("hqk,khs->qhs", weights, value).reshape(len(tokens), -1)


def test_the_release_is_the_pinned_one() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [pin] = [p for p in extras["optional-dependencies"]["hf"] if p.startswith("openvino")]
    assert pin == f"openvino=={ov.__version__.partition('-')[0]}"


@pytest.mark.parametrize("window", [0, 20])
def test_it_is_attention_over_blocks(tmp_path: Path, window: int) -> None:
    file, table = write(tmp_path, window)
    model = CompiledModel(file, HEADS * SIZE, "exact")
    model.allocate(12)
    random = np.random.default_rng(1)
    texts = [random.integers(0, 50, n).tolist() for n in (70, 5)]
    blocks = [[3, 1, 7], [2]]
    # Both texts in one pass, but for their last two tokens, which are read one by one.
    chunks = [
        Chunk(text[:-2], 0, row, len(text) - 2) for text, row in zip(texts, blocks, strict=True)
    ]
    read = model.run(chunks).copy()
    steps = [
        model.run(
            [
                Chunk([text[place]], len(text) + place, row, 1)
                for text, row in zip(texts, blocks, strict=True)
            ]
        ).copy()
        for place in (-2, -1)
    ]
    first = 0
    for index, text in enumerate(texts):
        ours = np.concatenate(
            [read[first : first + len(text) - 2], *(s[index, None] for s in steps)]
        )
        first += len(text) - 2
        assert np.abs(ours - attend(table, text, window)).max() < 1e-5


def test_the_cache_has_the_shape_that_the_blocks_count_on(tmp_path: Path) -> None:
    file, _ = write(tmp_path)
    core = ov.Core()
    model = core.read_model(file)
    install(model)
    compiled = core.compile_model(model, "CPU", _SETTINGS["exact"])
    caches = [p for p in compiled.inputs if "_cache." in p.get_any_name()]
    assert {p.get_any_name() for p in caches} == {"key_cache.0", "value_cache.0"}
    for port in caches:
        assert port.get_element_type() == ov.Type.f32
        assert str(port.get_partial_shape()) == f"[?,{KV_HEADS},{BLOCK},{SIZE}]"


def test_a_pass_changes_only_its_own_blocks(tmp_path: Path) -> None:
    file, table = write(tmp_path)
    model = CompiledModel(file, HEADS * SIZE, "exact")
    model.allocate(6)
    texts = [[5, 6, 7], [8, 9, 10, 11]]
    model.run([Chunk(texts[0], 0, [1])])
    model.run([Chunk(texts[1], 0, [2])])
    model.copy_block(1, 3)
    model.wipe_block(1)
    [after] = model.run([Chunk([12], 3, [3])]).copy()
    assert np.abs(after - attend(table, [*texts[0], 12], 0)[-1]).max() < 1e-5
    [after] = model.run([Chunk([12], 4, [2])]).copy()
    assert np.abs(after - attend(table, [*texts[1], 12], 0)[-1]).max() < 1e-5
