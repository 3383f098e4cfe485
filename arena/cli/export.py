"""arena export FILE"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from arena.cli import output
from arena.results.export import export


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results file, the format and the folder."""
    parser.add_argument("results", type=Path, metavar="FILE", help="a results file of `arena run`")
    parser.add_argument(
        "--format", choices=("csv", "parquet"), default="csv", help="file format (default: csv)"
    )
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="target folder (default: FILE without its suffix)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the tables and print their paths."""
    console = Console(emoji=False, markup=False, highlight=False)
    folder = args.to or args.results.parent / args.results.stem
    for path in export(args.results, folder, args.format):
        output.show(console, str(path))
    return 0
