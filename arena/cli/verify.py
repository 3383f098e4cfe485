"""arena verify FILE [--config EXPERIMENT]"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.progress import track

from arena.cli import output
from arena.cli.query import add_query, read_query
from arena.games.sandbox import Sandbox
from arena.report.load import open_results
from arena.report.replay import verify
from arena.results.opening import warn_of_loss
from arena.results.reader import Query
from arena.results.rows import PLAYED


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results file and the query."""
    add_query(parser)


def run(args: argparse.Namespace) -> int:
    """Replay every episode that has a result; 1 if one of the results is not confirmed."""
    query = read_query(args)
    return max([_verify(path, query) for path in args.results])


def _verify(path: Path, query: Query | None) -> int:
    if warning := warn_of_loss(path):
        output.say(f"warning: {warning}")
    console = output.make_console()
    checked, problems = 0, dict[str, str]()
    progress = Console(stderr=True, emoji=False)
    with open_results(path, query) as results, closing(Sandbox(own=results.own_games)) as sandbox:
        for episode in track(
            results.first(None),
            "verifying",
            len(results.columns),
            console=progress,
            transient=True,
            disable=not progress.is_terminal,  # rich would print an empty line
        ):
            if episode.status in PLAYED:
                checked += 1
                moves, seats = results.moves(episode, light=True), results.reader.seats_of(episode)
                if problem := verify(episode, moves, seats, sandbox.play_actions).problem:
                    problems[episode.name] = problem
    output.say_some([f"{path}: {name}: {problem}" for name, problem in problems.items()])
    others = len(results.columns) - checked
    unplayed = f"; {others:,} episodes have none" if others else ""
    confirmed = f"OpenSpiel confirms {checked - len(problems):,} of {checked:,} results"
    output.show(console, f"{path}: {confirmed}{unplayed}")
    return int(bool(problems))
