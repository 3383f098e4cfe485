"""arena run --config FILE"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from arena.cli import output
from arena.cli.progress import MAX_REASONS, ProgressDisplay, list_spending, share
from arena.cli.query import warn_of_versions
from arena.cli.validate import (
    ValidationReport,
    add_common_arguments,
    check_experiment,
    print_report,
    use_results,
)
from arena.experiment.file import Experiment
from arena.experiment.load import ExperimentError, load_experiment
from arena.experiment.model_calls import ModelCaller
from arena.experiment.recording import RecordedModels, Recorder
from arena.experiment.schedule import schedule
from arena.runners.job import Job, RunProgress
from arena.runners.ray import run_ray
from arena.runners.worker import run_sequential
from arena_llm import AsyncClient, Client
from arena_llm.connection import find_connection
from arena_llm.types import Price

RUNNERS = {"sequential": run_sequential, "ray": run_ray}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the experiment and the options of the run."""
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the experiment's file"
    )
    parser.add_argument(
        "--runner",
        choices=RUNNERS,
        default="sequential",
        help="one process, or several with Ray (default: sequential)",
    )
    parser.add_argument(
        "--allow-network-disk",
        action="store_true",
        help="allow results on a network file system; only one process may use the file then",
    )
    recording = parser.add_mutually_exclusive_group()
    recording.add_argument(
        "--record", type=Path, metavar="FILE", help="store every request and reply in this file"
    )
    recording.add_argument(
        "--replay", type=Path, metavar="FILE", help="take the replies from this file; call no model"
    )
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Check everything as `arena validate` does, then play; 0 if no episode failed."""
    experiment = use_results(load_experiment(args.config), args.results)
    human = _human(experiment)
    if human and args.runner != "sequential":
        raise ExperimentError(
            f"{args.config}: {human}.type: a human player needs this process and its terminal: "
            "use --runner sequential"
        )
    if args.record and args.record.exists():
        Recorder(args.record).close()
    replay = _open_recording(args.replay, experiment) if args.replay else None
    if replay is not None:
        # A replay spends nothing: the budget applied to the recorded run.
        no_bounds = {"max_cost_usd": None, "max_tokens_total": None}
        settings = experiment.settings.model_copy(update=no_bounds)
        experiment = replace(experiment, settings=settings)
    console = Console(stderr=True, emoji=False)
    prices: dict[str, Price] = {}
    if replay is None:
        report = _check(args, experiment)
        if not report.models_can_run:
            return 1
        prices = {check.model: check.price for check in report.checks if check.price is not None}
    warn_of_versions(experiment, experiment.results)
    tally = asyncio.run(_play(args, experiment, replay, console, prices))
    _summarise(tally, experiment, Console(emoji=False))
    missing = tally.total - tally.episodes.total() + tally.episodes["failed"]
    if tally.enough:
        missing = tally.episodes["failed"]
    return int(bool(missing or tally.stopped))


def _open_recording(path: Path, experiment: Experiment) -> RecordedModels:
    return RecordedModels(path, {spec.episode: spec.name for spec in schedule(experiment)})


def _check(args: argparse.Namespace, experiment: Experiment) -> ValidationReport:
    with Client(**find_connection(args.target)) as client:
        report = check_experiment(
            client, experiment, lenient=args.lenient, network_disk=args.allow_network_disk
        )
    if report.checks:
        print_report(report, output.make_console(stderr=True), quiet=False, brief=True)
    return report


def _human(experiment: Experiment) -> str:
    """The path of a human player in the file, such as "agents.me"; empty if there is none."""
    people = {row.agent for row in experiment.models if row.type == "human"}
    settings = experiment.settings
    places = [
        ("agents", settings.agents),
        ("opponents", settings.opponents),
        ("anchors", settings.anchors),
    ]
    return next((f"{key}.{name}" for key, names in places for name in names if name in people), "")


async def _play(
    args: argparse.Namespace,
    experiment: Experiment,
    replay: RecordedModels | None,
    console: Console,
    prices: Mapping[str, Price],
) -> RunProgress:
    connection = find_connection(args.target)
    if args.runner == "ray" and (target := experiment.settings.ray.target) is not None:
        connection["target"] = target  # for the nodes
    async with AsyncClient(**connection) as client:
        backend = replay or ModelCaller(
            client, experiment.name, experiment.prices, experiment.settings.patience
        )
        results = experiment.results.absolute()
        job = Job(
            experiment, backend, results, args.record, prices, network_disk=args.allow_network_disk
        )
        if _human(experiment):  # the player needs the terminal
            return await RUNNERS[args.runner](job, lambda tally: None)
        with ProgressDisplay(console) as progress:
            return await RUNNERS[args.runner](job, progress.show)


def _summarise(tally: RunProgress, experiment: Experiment, console: Console) -> None:
    """Print the result in a few lines."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(tally.episodes.items()))
    missing = tally.total - tally.episodes.total()
    open_ = tally.open.total()
    state = "needed" if tally.enough else "played"
    outcomes = [
        *([counts] if counts else []),
        *([f"{open_} open"] if open_ else []),
        *([f"{missing - open_} not {state}"] if missing > open_ else []),
    ]
    # A run that plays nothing new has no answers. What was spent is of all runs.
    share_illegal = share(tally.illegal, tally.answers)
    illegal = f"{share_illegal} of this run's {tally.answers:,} answers illegal"
    spending = list_spending(tally.spent)
    lines = [
        f"{tally.total} episode{'s' * (tally.total != 1)}: {', '.join(outcomes)}",
        ", ".join([*([illegal] if tally.answers else []), *spending]),
        *([f"{tally.others:,} of them played by other processes"] if tally.others else []),
        *(f"{count} open: {reason}" for reason, count in tally.open.items()),
        *(["the same command plays the open episodes"] if tally.open else []),
        *(f"{count} failed: {reason}" for reason, count in tally.failures.most_common(MAX_REASONS)),
        *(["the same command plays the failed episodes again"] if tally.failures else []),
        *([f"stopped: {tally.stopped}; {tally.remedy}"] if tally.stopped else []),
        *([f"enough: {tally.enough}"] if tally.enough else []),
        f"results: {experiment.results}",
    ]
    for line in lines:
        output.show(console, line)
    output.show_command(console, "report", experiment.results, "--config", experiment.path)
