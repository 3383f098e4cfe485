"""The moves of an episode as one compressed value, and what they count to for each seat.

The value is a JSON object with one list for each column of MoveRow that is not empty, compressed
with zlib. The first episode of a game that has prompts gives the dictionary for it and all later
ones, because their prompts have the rules in common.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, create_model

from arena.results.rows import EpisodeRow, MoveRow, Origin, SeatRow

#: zlib uses at most the last 32 kB of a dictionary.
_DICTIONARY = 32_768
#: Level 6 of 9: level 9 takes three times as long for 1 % less.
_LEVEL = 6
#: Largest transcript that is decompressed, in bytes.
_MAX_TRANSCRIPT = 256 * 2**20

#: Columns that the episode's row has already.
_KNOWN = ("episode", "agent")
_COLUMNS = tuple(field.name for field in fields(MoveRow) if field.name not in _KNOWN)


class TranscriptError(ValueError):
    """A stored transcript cannot be read."""


_Int = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_TYPES: dict[str, Any] = {
    "ply": _Int,
    "seat": _Int,
    "attempt": _Int,
    "status": Literal["ok", "illegal", "unparseable", "error"],
    "legal_actions": tuple[tuple[_Int, str], ...] | None,
    "latency_ms": float | None,
    **dict.fromkeys(
        (
            "action", "prompt_tokens", "completion_tokens", "reasoning_tokens", "cost_picousd",
            "attempts", "failed_attempts_picousd", "replayed", "cached",
        ),
        _Int | None,
    ),
}  # fmt: skip
_fields: dict[str, Any] = {
    name: (list[_TYPES.get(name, str | None)], Field([]))  # type: ignore[misc]  # a type at run time
    for name in _COLUMNS
}
_Moves: Any = create_model(
    "_Moves",
    __config__=ConfigDict(extra="forbid", strict=True, protected_namespaces=()),
    **_fields,
)


def fold(moves: Sequence[MoveRow]) -> bytes:
    """Return moves as JSON, without the columns that are empty in all of them."""
    columns = {name: [getattr(move, name) for move in moves] for name in _COLUMNS}
    columns = {
        name: values
        for name, values in columns.items()
        if any(value is not None for value in values)
    }
    return json.dumps(columns, separators=(",", ":")).encode()


def make_dictionary(folded: bytes) -> bytes:
    """Return the dictionary for the episodes of a game, from the first one."""
    return folded[-_DICTIONARY:]


def compress(folded: bytes, dictionary: bytes) -> bytes:
    """Compress the result of `fold`. dictionary: empty for none."""
    compressor = (
        zlib.compressobj(_LEVEL, zdict=dictionary) if dictionary else zlib.compressobj(_LEVEL)
    )
    return compressor.compress(folded) + compressor.flush()


def decompress(blob: bytes, dictionary: bytes) -> bytes:
    """Return what `compress` was given. Raises TranscriptError.

    dictionary: the game's; zlib knows whether it was used.
    """
    try:
        decompressor = zlib.decompressobj(zdict=dictionary)
        folded = decompressor.decompress(blob, _MAX_TRANSCRIPT)
    except zlib.error as error:
        raise TranscriptError(f"the transcript cannot be decompressed: {error}") from None
    if not decompressor.eof:
        raise TranscriptError("the transcript is cut off or too long")
    return folded


def unfold(folded: bytes, episode: EpisodeRow, without: Collection[str] = ()) -> list[MoveRow]:
    """Return the moves in the order of play. Raises TranscriptError.

    without: columns to leave out.
    """
    try:
        checked = _Moves.model_validate_json(folded)
        given = checked.model_fields_set.difference(without)
        columns = {name: getattr(checked, name) for name in given}
        names = list(columns)
        moves = []
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(names, values, strict=True))
            seat = row["seat"]
            agent = episode.agents[seat] if 0 <= seat < len(episode.agents) else None
            moves.append(MoveRow(episode=episode.episode, agent=agent, **row))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise TranscriptError(f"the transcript: {where}: {problem['msg']}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise TranscriptError(f"the transcript: {error}") from None
    return moves


def hash_trajectory(moves: Iterable[MoveRow]) -> int:
    """Return a hash of 62 bits of all actions that were played, chance events included."""
    played = [(move.ply, move.seat, move.action) for move in moves if move.action is not None]
    text = json.dumps(sorted(played))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 2


def count_seats(
    episode: EpisodeRow, moves: Collection[MoveRow]
) -> list[tuple[SeatRow, dict[Origin, list[int]]]]:
    """Count what each seat did; with each origin's number of answers and of illegal ones."""
    counted = []
    for seat in range(len(episode.agents)):
        own = [move for move in moves if move.seat == seat]
        calls = [move for move in own if move.model]
        statuses = Counter(move.status for move in own)
        origins: dict[Origin, list[int]] = {}
        for move in calls:
            counts = origins.setdefault(Origin.of(move), [0, 0])
            counts[0] += 1
            counts[1] += move.status in ("illegal", "unparseable")
        row = SeatRow(
            seat=seat,
            version=episode.versions[seat] if episode.versions else "",
            turns=sum(move.attempt == 0 for move in own),
            first_legal=sum(move.attempt == 0 and move.status == "ok" for move in own),
            calls=len(calls),
            ok=statuses["ok"],
            illegal=statuses["illegal"],
            unparseable=statuses["unparseable"],
            errors=statuses["error"],
            prompt_tokens=sum(move.prompt_tokens or 0 for move in calls),
            completion_tokens=sum(move.completion_tokens or 0 for move in calls),
            reasoning_tokens=sum(move.reasoning_tokens or 0 for move in calls),
            reasoned=sum(move.reasoning_tokens is not None for move in calls),
            uncounted=sum(None in (move.prompt_tokens, move.completion_tokens) for move in calls),
            cost_picousd=sum(move.cost_picousd or 0 for move in calls),
            unpriced=sum(move.cost_picousd is None for move in calls),
            latency_ms=sum(move.latency_ms or 0.0 for move in calls),
            details=_count_details(own, calls),
        )
        counted.append((row, origins))
    return counted


def _count_details(own: Sequence[MoveRow], calls: Sequence[MoveRow]) -> dict[str, Any]:
    """Return the counts that are rarely needed, without those that are 0."""
    counts = {
        "policies": dict(Counter(move.policy for move in own if move.policy)),
        "ends": dict(
            Counter(
                move.finish_reason for move in calls if move.finish_reason not in (None, "stop")
            )
        ),
        "replayed": sum(bool(move.replayed) for move in calls),
        "cached": sum(bool(move.cached) for move in calls),
        "fallbacks": sum(bool(move.failed_models) for move in calls),
        "retried": sum((move.attempts or 0) > 1 for move in calls),
        "failed_attempts_picousd": sum(move.failed_attempts_picousd or 0 for move in calls),
    }
    return {name: count for name, count in counts.items() if count}
