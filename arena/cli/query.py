"""What `arena report`, `verify` and `export` read: results files, or those of an experiment."""

from __future__ import annotations

import argparse
from pathlib import Path

from arena.cli import output
from arena.experiment.file import RESULTS_NAME, Experiment
from arena.experiment.load import load_experiment
from arena.experiment.schedule import schedule
from arena.games.game import find_path
from arena.results.database import ResultsError
from arena.results.reader import Query, make_query
from arena.results.versions import count_other_versions


def find_results(text: str) -> Path:
    """A results file, by its own path or by that of its folder."""
    path = Path(text)
    inside = path / RESULTS_NAME
    return inside if inside.is_file() else path


def add_query(parser: argparse.ArgumentParser) -> None:
    """Add the results files, and the option that selects the episodes of an experiment."""
    parser.add_argument(
        "results",
        type=find_results,
        nargs="*",
        metavar="FILE",
        help="results files of `arena run`, or their folders; export reads one (default: the "
        "experiment's)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="EXPERIMENT",
        help="count only the episodes of this experiment (default: all in the file)",
    )


def read_query(args: argparse.Namespace) -> Query | None:
    """The query of the option --config. Without results files, those of the experiment are used.

    Raises ExperimentError.
    """
    if args.config is None:
        if not args.results:
            raise ResultsError("name a results file, or an experiment with --config")
        return None
    experiment = load_experiment(args.config)
    args.results = args.results or [experiment.results]
    for path in args.results:
        warn_of_versions(experiment, path)
    keys = (spec.episode for spec in schedule(experiment))
    # Only the experiment's file may import games: a results file may come from somebody else.
    own = frozenset(filter(None, (find_path(game.spec) for game in experiment.games)))
    return make_query(experiment.row, keys, experiment.models, own)


def warn_of_versions(experiment: Experiment, path: Path) -> None:
    """Say how many episodes do not count because a prompt or the reader has changed since.

    Raises ResultsError.
    """
    lineups = (
        (game.spec, lineup, [game.versions[name] for name in lineup])
        for game in experiment.games
        for lineup in game.lineups
    )
    if path.exists() and (count := count_other_versions(path, experiment.models, lineups)):
        others = f"{count:,} episode{'s' * (count != 1)}"
        output.say(
            f"{path}: {others} of an earlier prompt or reader do not count for this experiment; "
            f"`{output.make_command('report', path)}` shows all"
        )
