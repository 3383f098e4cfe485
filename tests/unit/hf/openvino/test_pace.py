"""Prompts get half of the time, in pieces that the rows beside them hardly notice."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from services.hf.openvino.pace import Pace

#: Seconds of a pass over rows and prompt tokens: models, and machines, of several kinds.
COSTS: dict[str, Callable[[int, int], float]] = {
    "a small model": lambda rows, tokens: 0.011 + 0.0015 * (rows - 1) + 0.0012 * tokens,
    "a large model": lambda rows, tokens: 1.0 + 0.01 * (rows - 1) + 0.04 * tokens,
    "dear prompts": lambda rows, tokens: 0.02 + 0.001 * (rows - 1) + 0.006 * tokens,
    "cheaper in large pieces": lambda rows, tokens: 0.01 + 0.004 * (rows + tokens) ** 0.8,
}
#: What a pass takes longer if the one before it had another number of tokens.
CHANGED = 1.25


def play(
    cost: Callable[[int, int], float], rows: int, passes: int = 1000
) -> list[tuple[int, float]]:
    """The prompt tokens and the seconds of each pass, while prompts always wait."""
    draw = random.Random(rows)  # noqa: S311 - test data
    pace, played, before = Pace(), [(0, cost(rows, 0))], 0
    for _ in range(passes):
        tokens = pace.next_piece()
        seconds = cost(rows, tokens)
        if tokens != before:
            seconds += (CHANGED - 1) * cost(rows, 0)
        noise = 10 if draw.random() < 0.005 else draw.choice([0.95, 1.0, 1.05])
        pace.record(tokens, noise * seconds)  # 10: another process had the cores
        played.append((tokens, seconds))
        before = tokens
    return played


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
@pytest.mark.parametrize("rows", [1, 8, 32])
def test_rows_keep_half_of_their_speed(cost: Callable[[int, int], float], rows: int) -> None:
    plain, settled = cost(rows, 0), play(cost, rows)[50:]
    total = sum(seconds for _, seconds in settled)
    assert 0.5 <= len(settled) * plain / total <= 0.65, "prompts get the rest"
    gaps = sorted(seconds / plain for _, seconds in settled)
    assert gaps[int(0.99 * len(gaps))] <= 3
    assert sum(tokens for tokens, _ in settled) > 0


def test_a_new_machine_begins_with_a_plain_step() -> None:
    pace = Pace()
    assert pace.next_piece() == 0
    for _ in range(3):
        pace.record(0, 0.01)
    assert pace.next_piece() >= 2


def test_a_plain_step_shows_now_and_then_what_it_costs() -> None:
    pace = Pace()
    pace.record(0, 0.01)
    pieces = []
    for _ in range(100):
        pieces.append(pace.next_piece())
        pace.record(pieces[-1], 0.01 + 0.0005 * pieces[-1])
    assert "00" in "".join(map(str, (min(piece, 1) for piece in pieces[10:])))


def test_one_interrupted_pass_stops_no_prompt() -> None:
    pace = Pace()
    pieces = []
    for index in range(60):
        tokens = pace.next_piece()
        pieces.append(tokens)
        pace.record(tokens, 9.0 if index == 30 else 0.01 + 0.001 * tokens)
    assert sum(pieces[34:]) >= sum(pieces[4:30]) * 0.9
