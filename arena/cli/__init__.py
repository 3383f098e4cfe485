"""The command `arena`: run experiments, and see what came of them.

Each command is a module with HELP, arguments(parser) and run(args) -> exit code.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType

from arena.cli import export, output, report, run
from arena.experiment.load import ConfigError
from arena.experiment.recording import RecordingError
from arena.results.database import ResultsError
from arena.runners.ray import RayError
from arena_llm import ArenaError

COMMANDS: dict[str, ModuleType] = {"run": run, "report": report, "export": export}

FAILED = 1
#: Wrong usage, as argparse has it, and files that are wrong or cannot be used.
USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Wrong usage exits with 2."""
    with output.streams() as stdout:
        try:
            code = _run(argv)
        except SystemExit as usage:  # of argparse, which has said why
            code = int(usage.code or 0)
        except OSError as error:  # of the system: no process or no file is left
            code = FAILED if error is stdout.error else _failed(error)
        with suppress(OSError):
            stdout.flush()
        if stdout.error is None:
            return code
        if not isinstance(stdout.error, BrokenPipeError):  # its reader wants no more
            output.say(f"stdout cannot be written: {stdout.error.strerror}")
        return code or FAILED


def _run(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    try:
        code: int = COMMANDS[args.command].run(args)
        return code
    except (ConfigError, RecordingError, ResultsError) as error:
        return _failed(error, USAGE)
    except (ArenaError, RayError) as error:
        return _failed(error)
    except KeyboardInterrupt:
        reason = "interrupted: what was played is saved; the same command goes on"
        return _failed(reason, INTERRUPTED)


def _failed(problem: object, code: int = FAILED) -> int:
    output.say(problem)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="arena",
        description="Let language models play games, and see what came of it.",
        epilog="Exit codes: 0 success; 1 failed episodes, models that cannot run, a spent "
        "budget, a player who left, output that cannot be written; 2 wrong usage or a wrong file.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.arguments(commands.add_parser(name, help=command.HELP, description=command.HELP))
    return parser
