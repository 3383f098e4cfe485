"""arena report FILE [--html PAGE] [--json | --wide]"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from rich.console import Console

from arena.cli import output
from arena.report import Report, print_tables, write_html
from arena.report.layout import to_json
from arena.report.terminal import WIDE
from arena.results.database import ResultsError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results file, the page's path, and the output format."""
    parser.add_argument("results", type=Path, metavar="FILE", help="a results file of arena run")
    parser.add_argument(
        "--html", type=Path, metavar="PAGE", help="path of the page (default: FILE as .html)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the tables as JSON")
    form.add_argument(
        "--wide", action="store_true", help="show all columns, however narrow the terminal is"
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
    if args.json:
        json.dump(to_json(report.tables), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        # Without a terminal, rich would assume 80 columns and break names and numbers.
        fits = (sys.stdout.isatty() or "COLUMNS" in os.environ) and not args.wide
        width = None if fits else WIDE
        print_tables(report, Console(emoji=False, markup=False, highlight=False, width=width))
    if problem is not None:
        output.say(problem)
        return 1
    if not args.json:
        console = Console(emoji=False, markup=False, highlight=False)
        output.show(console, f"page: {page}")
    return 0
