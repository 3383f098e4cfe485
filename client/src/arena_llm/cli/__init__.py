"""The command `arena-llm`: see and ask the models from a shell.

Each command is a module with HELP, arguments(parser) and run(client, args,
output) -> exit code; COMMANDS is the list of them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType

from arena_llm._transport import DEFAULT_TIMEOUT
from arena_llm.cli import check, generate, health, models, score, validate
from arena_llm.cli._output import Output, OutputError
from arena_llm.client import Client
from arena_llm.errors import ArenaError, InvalidArgumentError

COMMANDS: dict[str, ModuleType] = {
    "models": models,
    "check": check,
    "validate": validate,
    "generate": generate,
    "score": score,
    "health": health,
}

FAILED = 1
USAGE = 2  # as argparse has it
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0 if it succeeded, 1 if not, and 2 for wrong usage."""
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
    args = _parser().parse_args(argv)
    output.begin(json=args.json)
    try:
        client = Client(args.target, timeout=args.timeout)
    except InvalidArgumentError as error:
        output.error(error)
        return USAGE
    try:
        with client:
            code: int = COMMANDS[args.command].run(client, args, output)
        return code
    except ArenaError as error:
        output.error(error)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="arena-llm",
        description="See and ask the language models of Arena LLM.",
        epilog="Exit codes: 0 success, 1 failure, 2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=version("arena-llm"))
    _add_globals(parser, target=None, timeout=DEFAULT_TIMEOUT, json=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.HELP, description=command.HELP)
        command.arguments(one)
        # Taken after the command as well; SUPPRESS keeps what came before it.
        _add_globals(
            one, target=argparse.SUPPRESS, timeout=argparse.SUPPRESS, json=argparse.SUPPRESS
        )
    return parser


def _add_globals(
    parser: argparse.ArgumentParser,
    *,
    target: str | None,
    timeout: float | str,
    json: bool | str,
) -> None:
    parser.add_argument(
        "--target",
        default=target,
        metavar="HOST:PORT",
        help="router or backend (default: $ARENA_LLM_TARGET, else localhost:50050)",
    )
    parser.add_argument(
        "--timeout",
        default=timeout,
        type=_seconds,
        metavar="SECONDS",
        help=f"for each call (default: {DEFAULT_TIMEOUT:g})",
    )
    parser.add_argument(
        "--json", default=json, action="store_true", help="print one JSON document, for programs"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"must be a number over 0, not {text!r}")
    return seconds
