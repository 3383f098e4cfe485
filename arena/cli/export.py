"""arena export FILE"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from arena.cli import output
from arena.cli.query import add_query, read_query
from arena.results.database import ResultsError
from arena.results.reader import Query

FORMATS = ("csv", "parquet", "inspect", "rollouts", "every-eval-ever", "eval-results")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results file, the format and the folder."""
    add_query(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        metavar="FORMAT",
        default="csv",
        help="tables (csv, parquet); logs for Inspect; token ids with rewards, to train on "
        "(rollouts); results in shared schemas (every-eval-ever, eval-results) (default: csv)",
    )
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="target folder (default: FILE without its suffix)"
    )
    parser.add_argument(
        "--organization",
        default="unknown",
        metavar="NAME",
        help="who ran the experiment, for every-eval-ever (default: unknown)",
    )
    parser.add_argument(
        "--dataset",
        metavar="ID",
        help="the benchmark's dataset on the Hugging Face Hub, for eval-results",
    )


def run(args: argparse.Namespace) -> int:
    """Write the files and print their paths."""
    if args.format == "eval-results" and not args.dataset:
        raise ResultsError("eval-results needs --dataset: the id of the benchmark on the Hub")
    query = read_query(args)
    if len(args.results) > 1:
        raise ResultsError("name one results file: `arena merge` joins several")
    (results,) = args.results
    console = output.make_console()
    folder = args.to or results.parent / (args.config or results).stem
    notes: list[str] = []
    if args.format in ("csv", "parquet"):
        from arena.export.tables import export_tables

        files = export_tables(results, folder, args.format, query)
    else:
        files, notes = _export_for_others(args, results, folder, query)
    for path in files:
        output.show(console, str(path))
    for note in notes:
        output.say(note)
    return 0


def _export_for_others(
    args: argparse.Namespace, results: Path, folder: Path, query: Query | None
) -> tuple[list[Path], list[str]]:
    """Write the files of a format for other programs; return them, and what they leave out."""
    # The report's figures take a second to import, and tables do not need them.
    from arena.export.eval_results import export_eval_results
    from arena.export.every_eval_ever import export_every_eval_ever
    from arena.export.inspect_log import export_inspect
    from arena.export.rollouts import export_rollouts
    from arena.export.source import Exported, Source
    from arena.report.load import open_results

    writers: dict[str, Callable[[Source], Exported]] = {
        "inspect": lambda source: export_inspect(source, folder),
        "rollouts": lambda source: export_rollouts(source, folder),
        "every-eval-ever": lambda source: export_every_eval_ever(source, folder, args.organization),
        "eval-results": lambda source: export_eval_results(source, folder, args.dataset),
    }
    with open_results(results, query) as opened:
        source = Source(opened)
        if not source.models:
            raise ResultsError(f"{results}: no language model has played")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            written = writers[args.format](source)
        except OSError as error:
            raise ResultsError(
                f"{error.filename or folder}: cannot be written: {error.strerror}"
            ) from error
    return list(written.files), list(written.notes)
