"""What the commands of the client and of the arena share: exit codes and arguments."""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from arena_llm.connection import DEFAULT_PORT, DEFAULT_TIMEOUT, PORT_VARIABLE, TARGET_VARIABLE
from arena_llm.suggestions import did_you_mean
from arena_llm.v1 import REVISION

FAILED = 1
USAGE = 2  # the same as argparse
INTERRUPTED = 130  # 128 + SIGINT, as in shells

#: The header of a column of arena_llm.cli.output.format_price.
PRICE_HEADER = "USD PER MILLION TOKENS"


def find_command(name: str) -> str:
    """How a shell starts a command of this environment: by its name if it is on PATH."""
    path = Path(sys.prefix, "bin", name)
    found = shutil.which(name)
    if not path.exists() or (found and Path(found).resolve() == path.resolve()):
        return name
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


#: Lines of a usage that is shown with an error.
_MOST_USAGE = 6


class HintingParser(argparse.ArgumentParser):
    """A parser whose errors suggest the right name for a misspelled command or value."""

    def error(self, message: str) -> NoReturn:
        """Exit with the usage and the message. A long usage is replaced by a hint to --help."""
        if wrong := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            message += did_you_mean(wrong[1], re.findall(r"[\w-]+", wrong[2]), most=1)
        usage = self.format_usage()
        if len(usage.splitlines()) > _MOST_USAGE:
            usage = f"for help: {self.prog} --help\n"
        self.exit(USAGE, f"{usage}{self.prog}: error: {message}\n")


def parse_arguments(
    parser: argparse.ArgumentParser,
    commands: Mapping[str, argparse.ArgumentParser],
    argv: Sequence[str] | None,
) -> argparse.Namespace:
    """Parse the arguments. An unknown option is refused with the usage of its command.

    commands: the parser of each command, which is in `command` of the result.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    _check_options(words, parser, commands)
    args, unknown = parser.parse_known_args(words)
    if unknown:
        commands[args.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def _check_options(
    words: Sequence[str],
    parser: argparse.ArgumentParser,
    commands: Mapping[str, argparse.ArgumentParser],
) -> None:
    """Refuse an unknown option before argparse finds that a required one is missing."""
    command = next((commands[word] for word in words if word in commands), None)
    if command is None and words and not words[0].startswith("-"):
        return  # argparse names the wrong command
    known = _list_options(parser) | (_list_options(command) if command else set())
    for word in words[: words.index("--") if "--" in words else None]:
        name = word.partition("=")[0]
        # argparse accepts the beginning of a name, and reads a word with a blank as a value.
        if not name.startswith("--") or " " in name or any(o.startswith(name) for o in known):
            continue
        names = known.union(*map(_list_options, commands.values()))
        where = "" if command else "; options of a command come after it"
        hint = did_you_mean(name, sorted(names), most=1) or where
        (command or parser).error(f"unrecognized arguments: {word}{hint}")


def _list_options(parser: argparse.ArgumentParser) -> set[str]:
    return {"--help", *re.findall(r"--[\w-]+", parser.format_usage())}


def add_version(parser: argparse.ArgumentParser, distribution: str) -> None:
    """Add the option --version, which prints the version of the installed distribution."""
    text = f"{distribution} {version(distribution)} (contract revision {REVISION})"
    parser.add_argument("--version", action="version", version=text, help="print the version")


def add_target(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the option --target. Its value is for connection.find_connection."""
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
