"""Log-probabilities in OpenAI's format: rows while they arrive, a TokenTrace at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from arena_llm.types import TokenTrace
from services.common.errors import repair_text
from services.common.hosted.values import number


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One token. text: its bytes. top: its alternatives, each with its natural logarithm."""

    text: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


def parse_logprobs(value: Any) -> tuple[TokenRow, ...] | None:
    """The tokens with their alternatives; None if any is malformed."""
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, list):
        return None
    try:
        return tuple(map(_parse_row, content))
    except ValueError:
        return None


def make_trace(rows: Sequence[TokenRow]) -> TokenTrace | None:
    """The rows in columns; None if there are none.

    A token with fewer alternatives than another gets empty ones of probability 0.
    """
    if not rows:
        return None
    width = max(len(row.top) for row in rows)
    top = [*chain.from_iterable(row.top + _NOTHING * (width - len(row.top)) for row in rows)]
    return TokenTrace(
        logprobs=tuple(row.logprob for row in rows),
        bytes=tuple(row.text for row in rows),
        top_logprobs=tuple(logprob for _, logprob in top),
        top_bytes=tuple(text for text, _ in top),
        top_count=width,
    )


def drop_rows(rows: Sequence[TokenRow], size: int) -> Sequence[TokenRow]:
    """Return the rows after the first `size` bytes of text."""
    place = 0
    for index, row in enumerate(rows):
        if place >= size:
            return rows[index:]
        place += len(row.text)
    return rows if not size else ()


_NOTHING = ((b"", -math.inf),)


def format_rows(rows: Sequence[TokenRow]) -> dict[str, Any]:
    """The rows in OpenAI's format."""
    return {
        "content": [
            {
                **_format_token(row.text, row.logprob),
                "top_logprobs": [_format_token(*token) for token in row.top],
            }
            for row in rows
        ]
    }


def _format_token(text: bytes, logprob: float) -> dict[str, Any]:
    return {"token": text.decode(errors="replace"), "logprob": logprob, "bytes": list(text)}


def _parse_row(value: Any) -> TokenRow:
    text, logprob = _parse_token(value)
    top = value.get("top_logprobs") or ()
    if not isinstance(top, list | tuple):
        raise ValueError("top_logprobs is not a list")
    return TokenRow(text, logprob, tuple(map(_parse_token, top)))


def _parse_token(value: Any) -> tuple[bytes, float]:
    if not isinstance(value, dict) or not isinstance(text := value.get("token"), str):
        raise ValueError("no token")
    if (logprob := number(value.get("logprob"))) is None:
        raise ValueError("no number")
    if isinstance(octets := value.get("bytes"), list) and octets:
        try:
            return bytes(octets), logprob
        except (TypeError, ValueError):
            pass  # the text says the same, except for a part of a character
    return repair_text(text).encode(), logprob
