"""The report as one page of HTML that needs nothing else: no server, no network."""

from __future__ import annotations

import base64
import os
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from arena.report import words
from arena.report.outcomes import Share
from arena.report.plot import Scale
from arena.report.report import Report
from arena.results.database import ResultsError

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("tables.js", "data.js", "boards.js", "list.js", "answer.js", "viewer.js")
#: How many episodes of a kind of failure are linked.
LINKS = 8


@dataclass(frozen=True, slots=True)
class Asset:
    """A part of the page that the browser may run or apply, and nothing else of its kind."""

    text: Markup
    hash: str

    @classmethod
    def of(cls, *names: str) -> Asset:
        text = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)
        digest = base64.b64encode(sha256(text.encode()).digest()).decode()
        return cls(Markup(text), f"sha256-{digest}")  # noqa: S704 - a file of our own


def write_html(report: Report, out: Path) -> None:
    """Write the page to `out`: whole, or not at all. A device or a pipe stays what it is.

    The same file makes the same bytes. Raises ResultsError if `out` cannot be written.
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
    """The page. Whatever a model or a server wrote is escaped by Jinja's autoescape."""
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(ASSETS),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters |= {
        name: getattr(words, name)
        for name in (
            "share",
            "number",
            "signed",
            "percent",
            "duration",
            "dollars",
            "cost",
            "breakable",
            "pretty",
        )
    }
    return environment.get_template("report.html.j2").render(
        summary=report.summary,
        embedded=report.embedded,
        style=Asset.of("report.css"),
        script=Asset.of(*SCRIPTS),
        Share=Share,
        scale=Scale.of,
        heat=heat,
        links=LINKS,
        panels=["", *report.summary.games] if len(report.summary.games) > 1 else [""],
    )


def heat(score: float | None) -> str:
    """The class of a cell's colour: h0 (all lost) to h10 (all won)."""
    return "none" if score is None else f"h{round(10 * score)}"
