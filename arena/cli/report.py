"""arena report FILE [--html PAGE]"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from arena.cli import output
from arena.report import Report, print_tables, write_html
from arena.results.database import ResultsError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results file and the path of the page."""
    parser.add_argument("results", type=Path, metavar="FILE", help="a results file of `arena run`")
    parser.add_argument(
        "--html", type=Path, metavar="PAGE", help="the page (default: FILE with the suffix .html)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page and print the tables; 1 if the page cannot be written.

    Failed episodes are part of the tables and do not change the exit code.
    """
    report = Report.load(args.results)
    page = args.html or args.results.with_suffix(".html")
    problem = None
    # Write the page first: a reader of the tables, such as `head`, may end this process.
    try:
        if page.resolve() == args.results.resolve():
            raise ResultsError(f"{page}: is the results file: choose another page with --html")
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
