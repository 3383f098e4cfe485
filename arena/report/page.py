"""The report as one HTML page that needs no server and no network."""

from __future__ import annotations

import base64
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from arena.report import formatting
from arena.report.embed import Report
from arena.report.layout import Table
from arena.results.database import ResultsError

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("tables.js", "elements.js", "data.js", "boards.js", "list.js", "answer.js", "viewer.js")


@dataclass(frozen=True, slots=True)
class Asset:
    """A script or style of the page. The browser uses only those with the stated hash."""

    text: Markup
    hash: str

    @classmethod
    def load(cls, *names: str) -> Asset:
        """Join files of the folder assets/."""
        text = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)
        digest = base64.b64encode(sha256(text.encode()).digest()).decode()
        return cls(Markup(text), f"sha256-{digest}")  # noqa: S704 - our own file


def write_html(report: Report, out: Path) -> None:
    """Write the page to `out`. A file is only replaced by a complete page.

    The same results give the same bytes. Raises ResultsError if `out` cannot be written.
    """
    page = render(report)
    part = out.parent / f"{out.name}.part"
    try:
        if out.exists() and not out.is_file():
            out.write_text(page, encoding="utf-8", errors="replace")
            return
        part.write_text(page, encoding="utf-8", errors="replace")
        os.replace(part, out)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise ResultsError(f"{out}: cannot be written: {error.strerror}") from error


def render(report: Report) -> str:
    """Return the page's HTML. Jinja escapes all text of models and servers."""
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(ASSETS),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters |= {
        "breakable": formatting.breakable,
        "ends": formatting.format_ends,
        "mean": formatting.format_mean,
        "percent": formatting.format_percent,
        "pretty": formatting.pretty,
        "signed": formatting.format_signed,
        "sort_key": sort_key,
    }
    summary = report.summary
    return environment.get_template("report.html.j2").render(
        summary=summary,
        tables=report.tables,
        embedded=report.embedded,
        style=Asset.load("report.css"),
        script=Asset.load(*SCRIPTS),
        scale=make_scale,
        heat=heat_class,
        panels=["", *summary.games] if len(summary.games) > 1 else [""],
    )


def heat_class(score: float | None) -> str:
    """Return the CSS class of a cell's colour: h0 (all lost) to h10 (all won)."""
    return "none" if score is None else f"h{round(10 * score)}"


def sort_key(value: object) -> object:
    """Return the number by which the page sorts a cell with this value; None: by its text."""
    if isinstance(value, dict):
        value = value.get("count")
    return value if isinstance(value, int | float) else None


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from `low` to `high` with round ticks."""

    low: float
    high: float
    ticks: tuple[int, ...]

    def place(self, value: float) -> str:
        """Return the position of a value on the axis, as a percentage of its length.

        The open end of an interval is the end of the axis.
        """
        value = min(max(value, self.low), self.high)
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"


def make_scale(table: Table) -> Scale | None:
    """Return an axis a little longer than all intervals of a table; None without intervals."""
    ends = [end for row in table.rows for end in row.interval or () if math.isfinite(end)]
    if not ends:
        return None
    low, high = min(ends), max(ends)
    pad = max((high - low) * 0.06, 10.0)
    low, high = low - pad, high + pad
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(int(power * factor) for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.ceil(low / step) * step, math.floor(high)
    return Scale(low, high, tuple(range(first, last + 1, step)))
