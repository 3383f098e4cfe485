"""The command `arena`: check and run experiments, and report their results.

Each command is a module of this package with arguments(parser) and run(args) -> exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module

from arena.cli import output
from arena.experiment.load import ExperimentError
from arena.experiment.recording import RecordingError
from arena.plugins import PluginError, find_plugin_error
from arena.results.database import ResultsError
from arena.runners.crew import RayError
from arena_llm import ArenaError
from arena_llm.command_line import (
    FAILED,
    INTERRUPTED,
    USAGE,
    HintingParser,
    add_version,
    parse_arguments,
)

#: The commands and their help. A module is imported if its command is used: the report's
#: libraries take a second to load.
COMMANDS: Mapping[str, str] = {
    "validate": "check before an expensive run whether all models can run, and what it will cost",
    "run": "play an experiment; a second run continues an interrupted one",
    "live": "watch running games and play against a model, in the browser",
    "report": "print ratings and rates, and write a page with every move",
    "exploitability": "score a model at every decision of a game: exact results without playing",
    "verify": "replay all stored episodes with OpenSpiel, and compare their results",
    "audit": "read all stored replies again: count moves lost by their format, or never chosen",
    "export": "write results as tables, logs or training data for other programs",
    "merge": "copy the episodes of several results files into one",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Wrong usage exits with 2."""
    with output.streams() as stdout:
        try:
            code = _run(sys.argv[1:] if argv is None else argv)
        except SystemExit as usage:  # argparse has printed the reason
            code = int(usage.code or 0)
        except OSError as error:  # the system has no more processes or files
            code = FAILED if error is stdout.error else _fail(error)
        with suppress(OSError):
            stdout.flush()
        if stdout.error is None:
            return code
        if not isinstance(stdout.error, BrokenPipeError):  # else the reader has closed it
            output.say(f"stdout cannot be written: {stdout.error.strerror}")
        return code or FAILED


def _run(argv: Sequence[str]) -> int:
    args = parse_arguments(*_make_parsers(argv), argv)
    try:
        code: int = import_module(f"arena.cli.{args.command}").run(args)
        return code
    except (ExperimentError, RecordingError, ResultsError) as error:
        return _fail(error, USAGE)
    except (ArenaError, RayError, PluginError) as error:
        wrong_usage = getattr(error, "reason", "") == "INVALID_TARGET"
        return _fail(error, USAGE if wrong_usage else FAILED)
    except KeyboardInterrupt:
        done = {"run": "played", "exploitability": "scored"}.get(args.command)
        saved = f": everything {done} so far is saved; the same command continues" if done else ""
        return _fail(f"interrupted{saved}", INTERRUPTED)
    except Exception as error:
        if (failure := find_plugin_error(error)) is None:
            raise
        return _fail(failure)


def _fail(problem: object, code: int = FAILED) -> int:
    output.say(problem)
    return code


def _make_parsers(
    argv: Sequence[str],
) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the whole command line, and the parser of each command."""
    parser = HintingParser(
        prog="arena",
        description="Let language models play games, and report the results.",
        epilog="Exit codes: 0 success; 1 failed episodes, models that cannot run, a spent "
        "budget, a player who left, or output that cannot be written; 2 wrong usage or a wrong "
        "file; 130 interrupted.",
    )
    add_version(parser, "arena-llm-services")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subparsers: dict[str, argparse.ArgumentParser] = {}
    for name, text in COMMANDS.items():
        subparsers[name] = command = commands.add_parser(name, help=text, description=text)
        if name in argv:
            import_module(f"arena.cli.{name}").arguments(command)
    return parser, subparsers
