"""arena audit FILE"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial

from arena.audit import AuditCounts, StoredReply, Verdict, audit, audit_episode
from arena.cli import output
from arena.cli.query import find_results
from arena.games.game import GameError
from arena.games.sandbox import Sandbox
from arena.report.layout import Column
from arena.report.load import open_results
from arena.results.rows import ModelRow

_COLUMNS = (
    Column("player", numeric=False),
    Column("replies"),
    Column("strict", explain="replies in exactly the requested format, with a legal move"),
    Column("lenient", explain="replies that name a legal move as their choice"),
    Column("first legal", explain="first answers of a turn among the lenient ones", extra=1),
    Column(
        "good moves lost",
        explain="replies that name a legal move and were not accepted, with the 95 % interval of "
        "their share",
    ),
    Column("not chosen", explain="played moves that the reply does not choose; must be 0"),
)
_RULES = (Column("rule of the lenient reader", numeric=False), Column("replies"))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results file."""
    parser.add_argument(
        "results", type=find_results, metavar="FILE", help="a results file of arena run"
    )
    output.add_wide(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables; 1 if a move was played that the model did not choose."""
    console = output.make_console(wide=args.wide)
    with open_results(args.results) as results, closing(Sandbox()) as sandbox:
        episodes = ((episode, results.moves(episode)) for episode in results.first(None))
        formats = {name: _read_format(row) for name, row in results.participants.items()}
        counts, problems = audit(episodes, formats, partial(_audit_safely, sandbox))
    if not counts:
        output.show(console, "no replies of language models that are texts")
    else:
        rows = [_row(name, counts[name]) for name in sorted(counts)]
        output.show_table(console, _COLUMNS, rows, "use --wide")
        output.show(console, "")
        rules = sum((one.rules for one in counts.values()), start=AuditCounts().rules)
        output.show_table(
            console, _RULES, [(rule, f"{number:,}") for rule, number in rules.most_common()]
        )
    output.say_some([f"{name}: not audited: {problem}" for name, problem in problems.items()])
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
        f"{100 * counts.strict / counts.replies:.1f} %",
        f"{100 * counts.lenient / counts.replies:.1f} %",
        f"{100 * counts.first_legal / counts.first:.1f} %" if counts.first else "-",
        f"{counts.lost:,} ({100 * low:.1f} to {100 * high:.1f} %)",
        f"{counts.unchosen:,}",
    )
