"""A results file, read and counted once for both the terminal and the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from arena.report.embed import Embedded, embed
from arena.report.load import open_results
from arena.report.summary import Summary, summarise


@dataclass(frozen=True, slots=True)
class Report:
    """What the tables and the page tell, of one and the same snapshot of a file."""

    summary: Summary
    embedded: Embedded

    @classmethod
    def load(cls, path: Path) -> Report:
        """Raises ResultsError naming the file if it is no results file."""
        with open_results(path) as results:
            summary = summarise(results)
            return cls(summary, embed(results, summary))
