"""The report on a small tournament: as terminal output, as JSON, and as the page's text."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from arena.report.embed import Report
from arena.report.layout import to_json
from arena.report.page import render
from arena.report.terminal import print_tables
from tests.support.random_play import Played, play, write
from tests.support.tournament import AGENTS, answered, tournament

GAMES = ("tic_tac_toe", "kuhn_poker")


@cache
def _report() -> Report:
    """Two games with a forfeit, a failure, a truncated episode, and a wrong stored result."""
    played = [one for one in tournament() if one.row.game in GAMES]
    cut, wrong = (play("tic_tac_toe", AGENTS[1:], number, answered) for number in (7, 8))
    first = tuple(move for move in cut.moves if move.ply < 3)
    truncated = replace(cut.row, status="truncated", returns=(0.0, 0.0), plies=3)
    swapped = tuple(-value for value in wrong.row.returns or ())
    played += [Played(truncated, first), Played(replace(wrong.row, returns=swapped), wrong.moves)]
    with TemporaryDirectory() as folder:
        return Report.load(write(Path(folder, "results.sqlite"), played, {"hf_idle": "llm"}))


def write_terminal(width: int) -> str:
    """The output in a terminal of this many columns."""
    out = io.StringIO()
    print_tables(_report(), Console(file=out, width=width, force_terminal=False))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def write_json() -> str:
    """The tables as JSON.

    Numbers have nine digits, and at most twelve decimals: the last ones depend on the processor.
    """
    return json.dumps(_cut_digits(to_json(_report().tables)), indent=1) + "\n"


def _cut_digits(value: Any) -> Any:
    match value:
        case float():
            return float(f"{round(value, 12):.9g}") + 0.0  # no negative zero
        case list():
            return [_cut_digits(item) for item in value]
        case dict():
            return {key: _cut_digits(item) for key, item in value.items()}
        case _:
            return value


class _Text(HTMLParser):
    """Collects the text of a page, with a line for each row of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._skipped = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("style", "script", "noscript", "form"):
            self._skipped = tag
        elif tag in ("th", "td"):
            self.parts.append(" | ")
        self.parts += [f" [{value}]" for name, value in attrs if name == "title"]
        if tag == "tbody" and dict(attrs).get("data-panel"):
            self.parts.append(f"\n(panel {dict(attrs)['data-panel']})\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._skipped:
            self._skipped = ""
        if tag in ("tr", "p", "h1", "h2", "h3", "li", "a", "summary", "title", "button"):
            self.parts.append("\n" if tag != "a" else " ")

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.parts.append(re.sub(r"\s+", " ", data))


def write_page_text() -> str:
    """The text of the page, without the replays, which need JavaScript."""
    parser = _Text()
    parser.feed(render(_report()))
    lines = (re.sub(r"\s+", " ", line).strip() for line in "".join(parser.parts).splitlines())
    return "".join(f"{line}\n" for line in lines if line)
