"""arena run --config FILE"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from arena.cli import output
from arena.cli.models import check_models
from arena.cli.progress import MOST_REASONS, Progress, share
from arena.experiment.file import Experiment
from arena.experiment.load import ConfigError, load_experiment
from arena.experiment.model_calls import ModelCaller
from arena.experiment.recording import RecordedModels, Recorder
from arena.results.opening import check_results
from arena.runners.coordinator import Job, RunProgress
from arena.runners.ray import run_ray
from arena.runners.worker import run_sequential
from arena_llm import AsyncClient

HELP = "play what an experiment lacks: all of it, or what an earlier run left"

RUNNERS = {"sequential": run_sequential, "ray": run_ray}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the experiment, and how to run it."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="an experiment")
    parser.add_argument(
        "--runner",
        choices=RUNNERS,
        default="sequential",
        help="one process, or several by Ray (default: sequential)",
    )
    parser.add_argument(
        "--results", metavar="PATH", help="a file, or a folder for it, in place of results:"
    )
    tape = parser.add_mutually_exclusive_group()
    tape.add_argument(
        "--record", type=Path, metavar="FILE", help="keep each request and reply there"
    )
    tape.add_argument(
        "--replay", type=Path, metavar="FILE", help="take the replies from there; ask no model"
    )
    parser.add_argument(
        "--lenient",
        action="store_true",
        help="assume that models of other backends than OpenRouter are valid, with a warning",
    )
    parser.add_argument(
        "--target",
        metavar="HOST:PORT",
        help="router or backend (default: $ARENA_LLM_TARGET, else localhost:50050)",
    )


def run(args: argparse.Namespace) -> int:
    """Check everything, then play; 0 if all episodes ended well."""
    experiment = load_experiment(args.config)
    if args.results:
        settings = experiment.settings.model_copy(update={"results": args.results})
        experiment = replace(experiment, settings=settings)
    human = _human(experiment)
    if human and args.runner != "sequential":
        raise ConfigError(
            f"{args.config}: {human}.type: human players need this very process: "
            "use the sequential runner"
        )
    if args.runner == "ray" and (experiment.settings.ray.address or "").startswith("ray://"):
        raise ConfigError(
            f"{args.config}: ray.address: must be host:port of a cluster that this machine is "
            "a node of, or auto: with ray:// the results would be written elsewhere"
        )
    check_results(experiment.results, experiment.row)
    if args.record and args.record.exists():
        Recorder(args.record).close()
    replay = RecordedModels(args.replay) if args.replay else None
    if replay is not None:
        # Nothing is spent anew: the budget was that of the run that was recorded.
        no_bounds = {"max_cost_usd": None, "max_tokens_total": None}
        settings = experiment.settings.model_copy(update=no_bounds)
        experiment = replace(experiment, settings=settings)
    console = Console(stderr=True, emoji=False)
    if replay is None and not check_models(experiment, args.target, console, lenient=args.lenient):
        return 1
    tally = asyncio.run(_play(args, experiment, replay, console))
    _summarise(tally, experiment, Console(emoji=False))
    return int(bool(tally.episodes["failed"] or tally.stopped))


def _human(experiment: Experiment) -> str:
    """Where somebody at the terminal plays, such as "agents.me"; empty if nobody does."""
    people = {row.agent for row in experiment.models if row.type == "human"}
    settings = experiment.settings
    places = [("agents", settings.agents), ("opponents", settings.opponents)]
    return next((f"{key}.{name}" for key, names in places for name in names if name in people), "")


async def _play(
    args: argparse.Namespace,
    experiment: Experiment,
    replay: RecordedModels | None,
    console: Console,
) -> RunProgress:
    async with AsyncClient(args.target) as client:
        backend = replay or ModelCaller(client, experiment.name)
        job = Job(experiment, backend, experiment.results.absolute(), args.record)
        if _human(experiment):  # the terminal is theirs
            return await RUNNERS[args.runner](job, lambda tally: None)
        with Progress(console) as progress:
            return await RUNNERS[args.runner](job, progress.show)


def _summarise(tally: RunProgress, experiment: Experiment, console: Console) -> None:
    """What came of it, in a few lines."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(tally.episodes.items()))
    left = tally.total - tally.episodes.total()
    lines = [
        f"{tally.total} episodes: {counts or 'none'}" + (f", {left} not played" if left else ""),
        f"{share(tally.illegal, tally.answers)} of {tally.answers:,} answers illegal, "
        f"{tally.tokens:,} tokens, ${tally.cost_usd:.4f}",
        *(
            f"{count} failed: {reason}"
            for reason, count in tally.failures.most_common(MOST_REASONS)
        ),
        *([f"stopped: {tally.stopped}; the same command goes on"] if tally.stopped else []),
        f"results: {experiment.results} (arena report {experiment.results})",
    ]
    for line in lines:
        output.show(console, line)
