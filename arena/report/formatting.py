"""Formats numbers and names for people."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

from markupsafe import Markup

from arena_llm.prices import format_dollars

if TYPE_CHECKING:
    from arena.statistics.intervals import Mean

#: Shown where there is no value.
NONE = "-"


def format_rate(mean: Mean | None) -> str:
    """Format a share and its 95 % interval, such as "62 % (41-79)"."""
    if mean is None:
        return NONE
    return f"{100 * mean.value:.0f} % ({100 * mean.low:.0f}-{100 * mean.high:.0f})"


def format_mean(mean: Mean | None) -> str:
    """Format a mean and its 95 % interval, such as "+0.31 (-0.20 to +0.75)"."""
    if mean is None:
        return NONE
    if mean.method == "exact":
        return f"{mean.value:+z.2f} (exact)"
    return f"{mean.value:+z.2f} ({mean.low:+z.2f} to {mean.high:+z.2f})"


def format_ends(low: float, high: float, sign: str = "") -> str:
    """Format the ends of an interval, which may be open, such as "≥ -15". sign: "+" shows it."""
    if math.isinf(low) and math.isinf(high):
        return "any"
    if math.isinf(high):
        return f"≥ {low:{sign}z.0f}"
    if math.isinf(low):
        return f"≤ {high:{sign}z.0f}"
    between = " to " if sign or low < 0 else "-"
    return f"{low:{sign}z.0f}{between}{high:{sign}z.0f}"


def format_p(value: float) -> str:
    """Format a p-value with two significant digits."""
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def format_number(value: float | None) -> str:
    """Format a whole number with thousands separators."""
    return NONE if value is None else f"{value:,.0f}"


def format_signed(value: float | None) -> str:
    """Format a number with two decimals and a sign."""
    return NONE if value is None else f"{value:+z.2f}"


def format_percent(value: float | None) -> str:
    """Format a share as a whole percentage."""
    return NONE if value is None else f"{100 * value:.0f} %"


def format_duration(ms: float | None) -> str:
    """Format milliseconds; from 1000 ms on as seconds."""
    if ms is None:
        return NONE
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def format_cost(picousd: int, *, known: bool, unknown: bool) -> str:
    """Format a cost in 10^-12 dollars. known, unknown: it has parts that are known, or are not."""
    return join_unknown(format_dollars(picousd), known=known, unknown=unknown)


def join_unknown(text: str, *, known: bool, unknown: bool) -> str:
    """Return the text of a sum, and say if some of its parts are unknown."""
    parts = [*([text] if known else []), *(["unknown"] if unknown else [])]
    return " + ".join(parts) or NONE


def format_count(count: int, noun: str) -> str:
    """Format a number and a noun, such as "1 game" or "1,000 games"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def breakable(name: str) -> Markup:
    """Return a name as HTML that a browser may break after its punctuation."""
    return Markup("<wbr>").join(re.split(r"(?<=[_/(,:])", name))


def pretty(text: str) -> str:
    """Format JSON with one value per line. Other text and too deeply nested JSON stay unchanged."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
