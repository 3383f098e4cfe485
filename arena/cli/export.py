"""arena export FILE"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from arena.cli import output
from arena.cli.query import add_query, read_query
from arena.results.database import ResultsError
from arena.results.export import export


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results file, the format and the folder."""
    parser.add_argument(
        "results",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="a results file of `arena run` (default: the experiment's)",
    )
    add_query(parser)
    parser.add_argument(
        "--format", choices=("csv", "parquet"), default="csv", help="file format (default: csv)"
    )
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="target folder (default: FILE without its suffix)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the tables and print their paths."""
    query = read_query(args)
    if len(args.results) > 1:
        raise ResultsError("name one results file: `arena merge` joins several")
    (results,) = args.results
    console = Console(emoji=False, markup=False, highlight=False)
    folder = args.to or results.parent / (args.config or results).stem
    for path in export(results, folder, args.format, query):
        output.show(console, str(path))
    return 0
