"""Compares an export with transformers, before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from services.hf.forward import Floats, log_softmax
from services.hf.openvino.compiled import Chunk, CompiledModel, count_blocks

#: The largest difference of a log-probability that rounding explains: 0.00004 was measured.
TOLERANCE = 0.002
#: The same for weights that were rounded to 16 bits: 0.03 was measured.
ROUNDED_TOLERANCE = 0.1

#: Lengths of the texts; their last tokens are read one by one. Longer than two blocks, and than
#: a short sliding window.
_LENGTHS = (9, 75, 200)
_STEPS = 6


class Refused(Exception):
    """The model cannot be exported. The message is a reason: "its attention ..."."""


def verify(model: Any, file: Path, tokens: int, *, rounded: bool = False) -> float:
    """The largest difference of a log-probability of any token at any place.

    model: the plain model. rounded: the export's weights are not exactly the model's.
    Raises Refused if the export is another model.
    """
    settings = model.config.get_text_config(decoder=True)
    window = getattr(settings, "sliding_window", None) or 0
    most = getattr(settings, "max_position_embeddings", None) or 10**6
    lengths = [min(n, most) for n in (*_LENGTHS, *([window + 40] if window < 2000 else []))]
    random = np.random.default_rng(1)
    texts = [random.integers(0, tokens, length).tolist() for length in lengths]
    with torch.inference_mode():
        expected = [
            log_softmax(model(torch.tensor([text])).logits[0, :, :tokens].float().numpy())
            for text in texts
        ]
    # One damaged token makes a whole text NaN, also before it. Calls of such a model fail alone.
    pairs = [
        (text, logprobs)
        for text, logprobs in zip(texts, expected, strict=True)
        if np.isfinite(logprobs.max(axis=-1)).all()
    ]
    if not pairs:
        raise Refused("it computes NaN or infinity")
    tolerance = ROUNDED_TOLERANCE if rounded else TOLERANCE
    computed = _compute(file, tokens, [text for text, _ in pairs])
    largest = 0.0
    for ours, (_, theirs) in zip(computed, pairs, strict=True):
        possible = np.isfinite(theirs)
        if (np.isfinite(ours) != possible).any():
            raise Refused("the exported model excludes other tokens than transformers")
        largest = max(largest, float(np.abs(ours - theirs)[possible].max()))
        chosen = theirs[np.arange(len(ours)), ours.argmax(axis=-1)]
        if largest > tolerance or (theirs.max(axis=-1) - chosen > 2 * tolerance).any():
            raise Refused(
                f"the exported model differs from transformers: by up to {largest:.2g} in a "
                "log-probability"
            )
    return largest


def _compute(file: Path, tokens: int, texts: list[list[int]]) -> list[Floats]:
    """The log-probabilities after each token of the texts: read together, then step by step."""
    counts = [count_blocks(len(text)) for text in texts]
    model = CompiledModel(file, tokens, "exact")
    model.allocate(1 + sum(counts))
    begins = np.cumsum([1, *counts])
    blocks = [
        list(range(begin, begin + count)) for begin, count in zip(begins, counts, strict=False)
    ]
    logits: list[list[Floats]] = [[] for _ in texts]
    halves = [max(1, (len(text) - _STEPS) // 2) for text in texts]
    reads = [max(1, len(text) - _STEPS) for text in texts]
    ends = [halves, reads, *([n + step for n in reads] for step in range(1, _STEPS + 1))]
    done = [0] * len(texts)
    for end in ends:
        chunks, rows = [], []
        for row, text in enumerate(texts):
            until = min(end[row], len(text))
            if until > done[row]:
                count = until - done[row]
                chunks.append(Chunk(text[done[row] : until], done[row], blocks[row], count))
                rows.append(row)
                done[row] = until
        begin, output = 0, model.run(chunks)
        for row, chunk in zip(rows, chunks, strict=True):
            logits[row].append(log_softmax(output[begin : begin + chunk.wanted].copy()))
            begin += chunk.wanted
    return [np.concatenate(pieces) for pieces in logits]
