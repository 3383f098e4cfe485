"""Moves survive folding with any values, and the counts of seats are theirs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields

import pytest

from arena.results.rows import EpisodeRow, MoveRow
from arena.results.transcript import (
    TranscriptError,
    compress,
    count_seats,
    decompress,
    fold,
    hash_trajectory,
    make_dictionary,
    unfold,
)

EPISODE = EpisodeRow("key", "nim", 0, ("a", "b"), 1, "finished", 3, returns=(1.0, -1.0))


def draw_text(rng: random.Random) -> str:
    return "".join(rng.choice('ab \u2028\x00é\U0001f600"\\') for _ in range(rng.randint(0, 20)))


def draw_integer(rng: random.Random) -> int:
    return rng.choice([0, 1, -1, 2**63 - 1, -(2**63), rng.randint(0, 10**6)])


_VALUES: dict[str, Callable[[random.Random], object]] = {
    "int | None": draw_integer,
    "str | None": draw_text,
    "float | None": lambda rng: rng.choice([0.0, 12.25, -1e308, float("inf"), rng.random()]),
    "tuple[tuple[int, str], ...] | None": lambda rng: tuple(
        (draw_integer(rng), draw_text(rng)) for _ in range(rng.randint(0, 3))
    ),
}


def draw_move(rng: random.Random) -> MoveRow:
    """A move in which each column is empty or has any value of its type."""
    seat = rng.choice([-1, 0, 1])
    values = {
        field.name: _VALUES[str(field.type)](rng) if rng.random() < 0.5 else None
        for field in fields(MoveRow)
        if field.name not in ("episode", "agent", "ply", "seat", "attempt", "status")
    }
    return MoveRow(
        "key",
        rng.randint(0, 9),
        seat,
        rng.randint(0, 3),
        rng.choice(["ok", "illegal", "unparseable", "error"]),
        agent=None if seat < 0 else "ab"[seat],
        **values,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("seed", range(60))
def test_what_is_folded_can_be_unfolded(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    moves = [draw_move(rng) for _ in range(rng.randint(0, 4))]
    folded = fold(moves)
    dictionary = make_dictionary(folded)
    for used in (b"", dictionary):
        # A transcript that was written before its game had a dictionary is read with one.
        assert decompress(compress(folded, used), dictionary) == folded
    assert unfold(folded, EPISODE) == moves
    brief = unfold(folded, EPISODE, ("prompt",))
    assert [move.prompt for move in brief] == [None] * len(moves)
    counted = [row for row, _ in count_seats(EPISODE, moves)]
    players = [move for move in moves if move.seat >= 0]
    assert sum(row.ok + row.illegal + row.unparseable + row.errors for row in counted) == len(
        players
    )
    assert sum(row.calls for row in counted) == sum(bool(move.model) for move in players)


def test_a_trajectory_is_the_actions_alone() -> None:
    moves = [MoveRow("key", 0, -1, 0, "ok", action=2), MoveRow("key", 1, 0, 0, "ok", action=5)]
    same = [moves[0], MoveRow("key", 1, 0, 0, "illegal"), MoveRow("key", 1, 0, 1, "ok", action=5)]
    assert hash_trajectory(moves) == hash_trajectory(same) == hash_trajectory(moves[::-1])
    assert hash_trajectory(moves) != hash_trajectory(moves[:1])
    assert 0 <= hash_trajectory(moves) < 2**62


def test_a_transcript_that_is_too_long_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("arena.results.transcript._MAX_TRANSCRIPT", 10)
    with pytest.raises(TranscriptError, match="too long"):
        decompress(compress(b"x" * 11, b""), b"")
