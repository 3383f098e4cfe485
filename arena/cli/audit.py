"""arena audit FILE"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from rich.console import Console

from arena.audit import AuditCounts, StoredReply, Verdict, audit, audit_episode
from arena.cli import output
from arena.games.game import GameError
from arena.games.sandbox import Sandbox
from arena.report.load import open_results
from arena.results.rows import ModelRow

_HEADER = (
    "player", "replies", "strict", "lenient", "first legal", "good moves lost", "not chosen",
)  # fmt: skip


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results file."""
    parser.add_argument("results", type=Path, metavar="FILE", help="a results file of arena run")


def run(args: argparse.Namespace) -> int:
    """Print the tables; 1 if a move was played that the model did not choose."""
    console = Console(emoji=False, markup=False, highlight=False)
    with open_results(args.results) as results, closing(Sandbox()) as sandbox:
        episodes = ((episode, results.moves(episode)) for episode in results.episodes)
        formats = {name: _read_format(row) for name, row in results.participants.items()}
        counts, problems = audit(episodes, formats, partial(_audit_safely, sandbox))
    if not counts:
        output.show(console, "no replies of language models that are texts")
    else:
        output.show_table(console, _HEADER, [_row(name, one) for name, one in counts.items()])
        output.show(console, "")
        rules = sum((one.rules for one in counts.values()), start=AuditCounts().rules)
        rows = [(rule, f"{number:,}") for rule, number in rules.most_common()]
        output.show_table(console, ("rule of the lenient reader", "replies"), rows)
    for name, problem in problems.items():
        output.say(f"{name}: not audited: {problem}")
    return 1 if any(one.unchosen for one in counts.values()) else 0


def _audit_safely(
    sandbox: Sandbox, game: str, plies: Sequence[Mapping[int, int]], replies: Sequence[StoredReply]
) -> list[Verdict] | str:
    """Audit in another process, because the file may come from somebody else."""
    try:
        return sandbox.call(audit_episode, game, plies, replies)
    except GameError as error:
        return str(error)


def _read_format(row: ModelRow) -> str:
    """The reply format of a player; empty if it is not a language model."""
    try:
        settings = json.loads(row.config)
    except (ValueError, RecursionError):
        settings = {}
    if row.type != "llm" or not isinstance(settings, Mapping):
        return ""
    return str(settings.get("reply", "json"))


def _row(name: str, counts: AuditCounts) -> tuple[str, ...]:
    low, high = counts.interval(counts.lost)
    return (
        name,
        f"{counts.replies:,}",
        f"{counts.strict / counts.replies:.1%}",
        f"{counts.lenient / counts.replies:.1%}",
        f"{counts.first_legal / counts.first:.1%}" if counts.first else "-",
        f"{counts.lost:,} ({counts.lost / counts.replies:.1%}, {low:.1%} to {high:.1%})",
        f"{counts.unchosen:,}",
    )
