"""Cells that several tables of the report have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeVar
from urllib.parse import urlencode

from arena.report.answers import AnswerStats, Share
from arena.report.count import Summary
from arena.report.formatting import (
    NONE,
    format_ends,
    format_mean,
    format_number,
    format_percent,
    format_rate,
    join_unknown,
)
from arena.report.layout import Cell
from arena.statistics.intervals import Mean

T = TypeVar("T")


def list_by_player(
    summary: Summary, totals: Mapping[str, T], games: Mapping[tuple[str, str], T]
) -> Iterator[tuple[str, str, T]]:
    """Yield player, game and value: each player's total, then each game if there are several."""
    for agent in sorted(totals):
        yield agent, "", totals[agent]
        if len(summary.games) > 1:
            for game in summary.games:
                if (agent, game) in games:
                    yield agent, game, games[agent, game]


def count_cell(number: int) -> Cell:
    """Return a cell with a whole number."""
    return Cell(f"{number:,}", value=number)


def nonzero_cell(number: int, link: str = "") -> Cell:
    """Return a cell that is empty if the number is 0."""
    return Cell(f"{number:,}", value=number, link=link) if number else Cell("", value=0)


def share_cell(share: Share, mean: Mean | None = None, link: str = "") -> Cell:
    """Return a cell with a count and its share. mean: of the shares of independent units."""
    if share.value is None:
        return Cell(NONE)
    value = {"count": share.count, "share": share.value, **_mean_value(mean)}
    detail = format_percent(share.value) if mean is None else format_rate(mean)
    return Cell(f"{share.count:,}", detail, value, link if share.count else "")


def rate_cell(mean: Mean | None) -> Cell:
    """Return a cell with a share and its interval."""
    text, _, detail = format_rate(mean).partition(" (")
    return Cell(text, detail and f"({detail}", _mean_value(mean) or None)


def mean_cell(mean: Mean | None) -> Cell:
    """Return a cell with a mean return and its interval."""
    text, _, detail = format_mean(mean).partition(" (")
    return Cell(text, detail and f"({detail}", _mean_value(mean) or None)


def percent_cell(mean: Mean | None) -> Cell:
    """Return a cell with a difference of shares and its interval, in per cent with signs."""
    if mean is None:
        return Cell(NONE)
    value, low, high = (f"{100 * number:+z.0f}" for number in mean[:3])
    return Cell(f"{value} %", f"({low} to {high})", _mean_value(mean))


def ends_cell(low: float, high: float, sign: str = "") -> Cell:
    """Return a cell with the ends of an interval; None in JSON is an open end."""
    ends = [end if math.isfinite(end) else None for end in (low, high)]
    return Cell(format_ends(low, high, sign), value=ends)


def _mean_value(mean: Mean | None) -> dict[str, object]:
    if mean is None:
        return {}
    return {
        "mean": mean.value,
        "interval": [mean.low, mean.high],
        "units": mean.n,
        "method": mean.method,
    }


def tokens_cell(stats: AnswerStats, total: int, unknown: int) -> Cell:
    """Return a cell with the tokens per move. unknown: calls whose tokens are not known."""
    mean = stats.per_turn(total)
    text = join_unknown(format_number(mean), known=unknown < stats.calls, unknown=unknown > 0)
    return Cell(text, value=None if unknown else mean)


def counts_cell(counts: Mapping[str, int]) -> Cell:
    """Return a cell with the number of each kind."""
    values = dict(sorted(counts.items()))
    return Cell(", ".join(f"{name} {n:,}" for name, n in values.items()), value=values)


def link_to_answers(agent: str, game: str, outcome: str) -> str:
    """Return the address of a player's replays with this outcome."""
    return make_address(game=game, player=agent, outcome=outcome)


def make_address(**values: str) -> str:
    """Return the address of replays on the page."""
    return f"#{urlencode(values)}"
