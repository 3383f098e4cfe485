"""arena report FILE [--html PAGE]"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from arena.cli import output
from arena.report import Report, print_tables, write_html
from arena.results.database import ResultsError

HELP = "print an experiment's tables and write its page: ratings, rates, every game move by move"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results file, and where the page goes."""
    parser.add_argument("results", type=Path, metavar="FILE", help="results, as `run` wrote them")
    parser.add_argument(
        "--html", type=Path, metavar="PAGE", help="the page (default: FILE with .html at its end)"
    )


def run(args: argparse.Namespace) -> int:
    """Write and print; 0 also where episodes failed: the tables say so.

    1 where the page cannot be written: the tables are there all the same.
    """
    report = Report.load(args.results)
    page = args.html or args.results.with_suffix(".html")
    problem = None
    # First: whoever reads the tables may stop before their end, and this process with it.
    try:
        if page.resolve() == args.results.resolve():
            raise ResultsError(f"{page}: is the results file: name another page with --html")
        write_html(report, page)
    except ResultsError as error:
        problem = error
    console = Console(emoji=False, markup=False, highlight=False)
    print_tables(report, console)
    if problem is not None:
        output.say(problem)
        return 1
    output.show(console, f"page: {page}")
    return 0
