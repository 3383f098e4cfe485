"""arena report FILE [--html PAGE]"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from arena.report import Report, print_tables, write_html

HELP = "print an experiment's tables and write its page: ratings, rates, every game move by move"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results file, and where the page goes."""
    parser.add_argument("results", type=Path, metavar="FILE", help="results, as `run` wrote them")
    parser.add_argument(
        "--html", type=Path, metavar="PAGE", help="the page (default: FILE with .html at its end)"
    )


def run(args: argparse.Namespace) -> int:
    """Write and print; 0 also where episodes failed: the tables say so."""
    page = args.html or args.results.with_suffix(".html")
    report = Report.load(args.results)
    # First: whoever reads the tables may stop before their end, and this process with it.
    write_html(report, page)
    console = Console(emoji=False)
    print_tables(report, console)
    console.print(f"page: {page}", markup=False, highlight=False, soft_wrap=True)
    return 0
