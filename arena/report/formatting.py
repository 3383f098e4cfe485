"""Formats numbers and names for people."""

from __future__ import annotations

import json
import re

from markupsafe import Markup

from arena.report.count import Share

#: Shown where there is no value.
NONE = "-"


def format_share(share: Share) -> str:
    """Format a share and its 95 % interval, such as "62 % (41-79)"."""
    if share.value is None or share.interval is None:
        return NONE
    low, high = share.interval
    return f"{100 * share.value:.0f} % ({100 * low:.0f}-{100 * high:.0f})"


def format_number(value: float | None) -> str:
    """Format a whole number with thousands separators."""
    return NONE if value is None else f"{value:,.0f}"


def format_signed(value: float | None) -> str:
    """Format a number with two decimals and a sign."""
    return NONE if value is None else f"{value:+.2f}"


def format_percent(value: float | None) -> str:
    """Format a share as a whole percentage."""
    return NONE if value is None else f"{100 * value:.0f} %"


def format_duration(ms: float | None) -> str:
    """Format milliseconds; from 1000 ms on as seconds."""
    if ms is None:
        return NONE
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def format_dollars(picousd: float | None) -> str:
    """Format an amount in dollars: two decimals, or two significant digits if it is small."""
    if picousd is None:
        return NONE
    value = picousd / 10**12
    if value == 0 or value >= 0.1:
        return f"${value:,.2f}"
    return f"${value:.2g}" if value >= 0.0001 else f"${value:.1e}"


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
