"""The command `arena-llm`: list, check and call the models from a shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from arena_llm.cli.commands import COMMANDS
from arena_llm.cli.output import Output, OutputError
from arena_llm.client import Client
from arena_llm.command_line import (
    FAILED,
    INTERRUPTED,
    USAGE,
    HintingParser,
    add_target,
    add_timeout,
    add_version,
    parse_arguments,
)
from arena_llm.connection import DEFAULT_TIMEOUT, find_connection
from arena_llm.errors import ArenaError, InvalidArgumentError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, as `--help` lists them."""
    output = Output()
    try:
        try:
            return _run(argv, output)
        finally:
            output.flush()
    except OutputError as error:
        if reason := str(error):
            output.complain(reason)
        return FAILED
    except KeyboardInterrupt:
        output.complain("interrupted")
        return INTERRUPTED


def _run(argv: Sequence[str] | None, output: Output) -> int:
    if (sys.argv[1:] if argv is None else argv)[:1] == ["validate"]:
        output.complain("validate is a command of the arena: use arena validate")
        return USAGE
    args = parse_arguments(*_parsers(), argv)
    output.begin(json=args.json)
    try:
        client = Client(**find_connection(args.target), timeout=args.timeout)
    except InvalidArgumentError as error:
        output.error(error)
        return USAGE
    try:
        with client:
            return COMMANDS[args.command].run(client, args, output)
    except ArenaError as error:
        output.error(error)
        return FAILED


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the whole command line, and the parser of each command."""
    parser = HintingParser(
        prog="arena-llm",
        description="List, check and call the language models of Arena LLM.",
        epilog="Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted. Before an "
        "expensive experiment, `arena validate` checks all of its models and estimates the cost.",
    )
    add_version(parser, "arena-llm")
    _add_globals(parser, target=None, timeout=DEFAULT_TIMEOUT, json=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subparsers: dict[str, argparse.ArgumentParser] = {}
    for name, command in COMMANDS.items():
        subparsers[name] = subparser = commands.add_parser(
            name, help=command.help, description=command.help
        )
        command.add_arguments(subparser)
        # Also accepted after the command; SUPPRESS keeps a value from before it.
        _add_globals(
            subparser, target=argparse.SUPPRESS, timeout=argparse.SUPPRESS, json=argparse.SUPPRESS
        )
    return parser, subparsers


def _add_globals(
    parser: argparse.ArgumentParser,
    *,
    target: str | None,
    timeout: float | str,
    json: bool | str,
) -> None:
    add_target(parser, target)
    add_timeout(parser, timeout)
    parser.add_argument(
        "--json", default=json, action="store_true", help="print one JSON document, for programs"
    )
