"""Formats numbers and names for people."""

from __future__ import annotations

import json
import re

from markupsafe import Markup

from arena.report.count import AnswerStats, Share

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


def format_dollars(value: float | None) -> str:
    """Format dollars with two decimals, and small amounts with two significant digits."""
    if value is None:
        return NONE
    if value == 0 or value >= 0.1:
        return f"${value:,.2f}"
    return f"${value:.2g}" if value >= 0.0001 else f"${value:.1e}"


def format_cost(answers: AnswerStats) -> str:
    """Format the cost of all calls, and say if the cost of some calls is unknown."""
    if answers.unpriced:
        priced = f"{format_dollars(answers.cost_usd)} + " if answers.priced else ""
        return f"{priced}unknown"
    return format_dollars(answers.cost_usd) if answers.calls else NONE


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
