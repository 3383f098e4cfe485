"""What the commands of the client and of the arena share: exit codes and arguments."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence

from arena_llm.connection import DEFAULT_PORT, DEFAULT_TIMEOUT, PORT_VARIABLE, TARGET_VARIABLE
from arena_llm.suggestions import did_you_mean

FAILED = 1
USAGE = 2  # the same as argparse
INTERRUPTED = 130  # 128 + SIGINT, as in shells

#: The header of a column of arena_llm.cli.output.format_price.
PRICE_HEADER = "USD PER MILLION TOKENS"


def parse_arguments(
    parser: argparse.ArgumentParser,
    commands: Mapping[str, argparse.ArgumentParser],
    argv: Sequence[str] | None,
) -> argparse.Namespace:
    """Parse the arguments. An unknown one is refused with the usage of its command.

    commands: the parser of each command, which is in `command` of the result.
    """
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        command = commands[args.command]
        options = re.findall(r"--[\w-]+", command.format_usage())
        hint = did_you_mean(unknown[0].partition("=")[0], options, most=1)
        command.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return args


def add_target(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the option --target. Its value is for connection.find_target."""
    parser.add_argument(
        "--target",
        default=default,
        metavar="HOST:PORT",
        help=f"router or backend (default: ${TARGET_VARIABLE}, else localhost:${PORT_VARIABLE}, "
        f"else localhost:{DEFAULT_PORT})",
    )


def add_timeout(parser: argparse.ArgumentParser, default: float | str = DEFAULT_TIMEOUT) -> None:
    """Add the option --timeout, in seconds."""
    parser.add_argument(
        "--timeout",
        default=default,
        type=_parse_seconds,
        metavar="SECONDS",
        help=f"time limit of a call (default: {DEFAULT_TIMEOUT:g})",
    )


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"must be a number over 0, not {text!r}")
    return seconds
