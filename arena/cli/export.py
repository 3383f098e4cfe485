"""arena export FILE"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from arena.cli import output
from arena.results.export import export

HELP = "write an experiment's tables as CSV or Parquet"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results file, the format, and the folder."""
    parser.add_argument("results", type=Path, metavar="FILE", help="results, as `run` wrote them")
    parser.add_argument(
        "--format", choices=("csv", "parquet"), default="csv", help="(default: csv)"
    )
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="where (default: FILE without its ending)"
    )


def run(args: argparse.Namespace) -> int:
    """Write them, and tell where."""
    console = Console(emoji=False, markup=False, highlight=False)
    folder = args.to or args.results.parent / args.results.stem
    for path in export(args.results, folder, args.format):
        output.show(console, str(path))
    return 0
