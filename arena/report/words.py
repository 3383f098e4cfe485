"""Numbers as people read them, and text that does no harm on a terminal."""

from __future__ import annotations

import json
import re

from markupsafe import Markup

from arena.report.answers import Answers
from arena.report.outcomes import Share
from arena_llm.terminal import visible

NONE = "-"


def share(found: Share) -> str:
    """As in "62 % (41-79)": the share and its 95 % interval."""
    if found.value is None or found.interval is None:
        return NONE
    low, high = found.interval
    return f"{found.value:.0%} ({100 * low:.0f}-{100 * high:.0f})".replace("%", " %", 1)


def number(value: float | None, digits: int = 0) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def signed(value: float | None) -> str:
    return NONE if value is None else f"{value:+.2f}"


def percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.0f} %"


def duration(ms: float | None) -> str:
    if ms is None:
        return NONE
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def dollars(value: float | None) -> str:
    """Two digits, and for small sums as many as tell something."""
    if value is None:
        return NONE
    if value == 0 or value >= 0.1:
        return f"${value:,.2f}"
    return f"${value:.2g}" if value >= 0.0001 else f"${value:.1e}"


def cost(answers: Answers) -> str:
    """A sum that leaves out what nobody knows says so."""
    if answers.unpriced:
        return f"{dollars(answers.cost_usd)} + unknown" if answers.priced else "unknown"
    return dollars(answers.cost_usd) if answers.calls else NONE


def breakable(name: str) -> Markup:
    """A name that a browser may break after its signs, in HTML."""
    return Markup("<wbr>").join(re.split(r"(?<=[_/(,:])", name))


def pretty(text: str) -> str:
    """JSON with a line for each value; other text, or JSON nested too deeply, unchanged."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def one_line(text: str, most: int) -> str:
    """Text of others for a line or a cell of a terminal, cut after `most` characters."""
    line = visible(re.sub(r"[\n\t]", " ", text[: most + 1]))
    return line if len(line) <= most else f"{line[: most - 1]}…"
