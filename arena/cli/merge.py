"""arena merge FILE... --to FILE"""

from __future__ import annotations

import argparse
from pathlib import Path

from arena.cli import output
from arena.cli.query import find_results
from arena.report.formatting import format_count
from arena.results.merge import merge


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files and the target."""
    parser.add_argument(
        "results",
        type=find_results,
        nargs="+",
        metavar="FILE",
        help="results files of `arena run`, also of earlier releases; they are not changed",
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="TARGET", help="the results file to add to"
    )
    parser.add_argument(
        "--allow-network-disk", action="store_true", help="allow a target on a network file system"
    )


def run(args: argparse.Namespace) -> int:
    """Copy all episodes and print how many were new."""
    merged = merge(args.results, args.to, network_disk=args.allow_network_disk)
    console = output.make_console()
    added = format_count(merged.added, "new episode")
    output.show(console, f"{args.to}: {added}, {format_count(merged.known, 'known one')}")
    if merged.conflicts:
        output.show(
            console,
            f"{merged.conflicts:,} of the known ones were played twice and differ: the one that "
            "ended first is kept",
        )
    return 0
