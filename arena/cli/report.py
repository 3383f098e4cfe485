"""arena report FILE... [--config EXPERIMENT] [--html PAGE] [--json | --wide]"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from arena.cli import output
from arena.cli.query import add_query, read_query
from arena.report.count import REPLAYS
from arena.report.embed import Report
from arena.report.layout import to_json
from arena.report.page import write_html
from arena.report.terminal import print_tables
from arena.results.database import ResultsError
from arena.results.merge import merge
from arena.results.opening import warn_of_loss


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results files, the page's path, and the output format."""
    add_query(parser)
    parser.add_argument(
        "--html", type=Path, metavar="PAGE", help="path of the page (default: FILE as .html)"
    )
    parser.add_argument(
        "--replays",
        type=_read_number,
        default=REPLAYS,
        metavar="N",
        help="the first N episodes, or all, are verified with OpenSpiel and shown move by move "
        f"(default: {REPLAYS:,})",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the tables as JSON")
    output.add_wide(form)


def run(args: argparse.Namespace) -> int:
    """Write the page and print the tables; 1 if the page cannot be written.

    Failed episodes are part of the tables and do not change the exit code.
    """
    query = read_query(args)
    for path in args.results:
        if warning := warn_of_loss(path):
            output.say(f"warning: {warning}")
    with _join(args.results) as results:
        report = Report.load(results, query, args.replays)
    page = args.html or (args.config or args.results[0]).with_suffix(".html")
    problem = None
    # Write the page first: a reader of the tables, such as `head`, may end this process.
    try:
        if os.path.realpath(page) in map(os.path.realpath, args.results):
            raise ResultsError(f"{page}: is the results file: choose another page with --html")
        write_html(report, page)
    except ResultsError as error:
        problem = error
    if args.json:
        json.dump(to_json(report.tables), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        print_tables(report, output.make_console(wide=args.wide))
    if problem is not None:
        output.say(problem)
        return 1
    if not args.json:
        output.show(output.make_console(), f"page: {page}")
    return 0


def _read_number(text: str) -> int | None:
    """A number of episodes; None for all."""
    if text != "all" and not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be a number or all, not {text!r}")
    return None if text == "all" else int(text)


@contextmanager
def _join(results: Sequence[Path]) -> Iterator[Path]:
    """Yield the file; several are merged into a temporary one."""
    if len(results) == 1:
        yield results[0]
        return
    with TemporaryDirectory(prefix="arena-report-") as folder:
        joined = Path(folder) / "results"
        merge(results, joined, network_disk=True)
        yield joined
