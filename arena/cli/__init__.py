"""The command `arena`: run experiments, and see what came of them.

Each command is a module with HELP, arguments(parser) and run(args) -> exit code.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from arena.cli import export, report, run
from arena.experiment.config import ConfigError
from arena.experiment.tape import RecordError
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
    args = _parser().parse_args(argv)
    try:
        code: int = COMMANDS[args.command].run(args)
        sys.stdout.flush()
        return code
    except (ConfigError, RecordError, ResultsError) as error:
        return _told(error, USAGE)
    except (ArenaError, RayError) as error:
        return _told(error, FAILED)
    except KeyboardInterrupt:
        return _told("interrupted: what was played is saved; the same command goes on", INTERRUPTED)
    except BrokenPipeError:
        # The reader has left; the interpreter must not complain about it at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _told(problem: object, code: int) -> int:
    for line in str(problem).splitlines():
        sys.stderr.write(f"arena: {line}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="arena",
        description="Let language models play games, and see what came of it.",
        epilog="Exit codes: 0 success; 1 failed episodes, models that cannot run, a spent "
        "budget; 2 wrong usage or a wrong file.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.arguments(commands.add_parser(name, help=command.HELP, description=command.HELP))
    return parser
