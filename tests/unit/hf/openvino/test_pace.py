"""Prompts get half of the time, in pieces that the rows beside them hardly notice."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from services.hf.openvino.pace import Pace

#: Seconds of a pass over rows and prompt tokens: models, and machines, of several kinds.
COSTS: dict[str, Callable[[int, int], float]] = {
    "a small model": lambda rows, tokens: 0.011 + 0.0015 * (rows - 1) + 0.0018 * tokens,
    "a large model": lambda rows, tokens: 1.0 + 0.01 * (rows - 1) + 0.04 * tokens,
    "dear prompts": lambda rows, tokens: 0.02 + 0.001 * (rows - 1) + 0.006 * tokens,
    "cheaper in large pieces": lambda rows, tokens: 0.01 + 0.004 * (rows + tokens) ** 0.8,
}


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
@pytest.mark.parametrize("rows", [1, 8, 32])
def test_rows_keep_half_of_their_speed(cost: Callable[[int, int], float], rows: int) -> None:
    draw = random.Random(rows)  # noqa: S311 - test data
    pace, plain = Pace(), cost(rows, 0)
    passes: list[tuple[int, float]] = []
    for _ in range(1000):
        tokens = pace.next_piece()
        seconds = cost(rows, tokens) * draw.choice([0.95, 1.0, 1.05])
        if draw.random() < 0.005:
            seconds *= 10  # another process had the cores
        pace.record(tokens, seconds)
        passes.append((tokens, cost(rows, tokens)))
    settled = passes[20:]
    total = sum(seconds for _, seconds in settled)
    kept = len(settled) * plain / total
    assert 0.5 <= kept <= 0.65, "prompts get the rest"
    gaps = sorted(seconds / plain for _, seconds in settled)
    assert gaps[int(0.99 * len(gaps))] <= 3
    assert sum(tokens for tokens, _ in settled) > 0


def test_a_new_machine_begins_with_a_plain_step() -> None:
    pace = Pace()
    assert pace.next_piece() == 0
    for _ in range(3):
        pace.record(0, 0.01)
    assert pace.next_piece() >= 2


def test_one_interrupted_pass_stops_no_prompt() -> None:
    pace = Pace()
    pieces = []
    for index in range(60):
        tokens = pace.next_piece()
        pieces.append(tokens)
        pace.record(tokens, 9.0 if index == 30 else 0.01 + 0.001 * tokens)
    assert sum(pieces[34:]) >= sum(pieces[4:30]) * 0.9
