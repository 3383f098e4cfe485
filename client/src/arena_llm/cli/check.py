"""arena-llm check MODEL..."""

from __future__ import annotations

import argparse

from arena_llm.cli._cells import credits_cell
from arena_llm.cli._output import Output, error_fields, plain
from arena_llm.client import Client
from arena_llm.errors import ArenaError, NotFoundError
from arena_llm.types import Availability

HELP = "tell whether models are usable now; fails if one is not"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the models."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="full name, with its prefix")


def run(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Print each model's state and how to fix it."""
    found = {name: _ask(client, name) for name in args.models}
    usable = all(isinstance(one, Availability) and one.available for one in found.values())
    if output.json:
        output.document(
            [
                {"model": name, **plain(one)}
                if isinstance(one, Availability)
                else {"model": name, "available": False, "error": error_fields(one)}
                for name, one in found.items()
            ]
        )
    else:
        output.table(
            ("MODEL", "USABLE", "STATE", "CREDITS", "DETAIL"),
            [(name, *_cells(one)) for name, one in found.items()],
        )
    return 0 if usable else 1


def _ask(client: Client, model: str) -> Availability | ArenaError:
    try:
        return client.is_available(model)
    except NotFoundError as error:
        # One wrong name must not hide the states of the others.
        return error


def _cells(one: Availability | ArenaError) -> tuple[str, str, str, str]:
    if isinstance(one, ArenaError):
        return "no", one.reason or one.code, "-", one.message
    usable = "yes" if one.available else "no"
    detail = "; ".join(filter(None, (one.detail, *one.warnings))) or "-"
    return usable, one.state, credits_cell(one.credits), detail
