"""Standard output and error of the command. Untrusted text cannot control the terminal."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from rich.console import Console
from rich.text import Text

from arena.report.fitting import WIDE, StyledRow, break_name, print_fitting
from arena.report.layout import Column
from arena_llm.command_line import find_command
from arena_llm.terminal import discard, escape_unencodable, fold, fold_words, one_line

#: Longer lines of messages and errors are cut.
LONGEST_LINE = 4_000

#: The most problems of one kind that are printed. The rest is only counted.
_MOST = 20


class SafeStream:
    """stdout or stderr. error: the first error of writing to it, or None.

    lenient: text that cannot be written is dropped without raising an error.
    """

    def __init__(self, stream: TextIO, *, lenient: bool) -> None:
        self._stream = stream
        self._lenient = lenient
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        with self._keep_error():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._keep_error():
            self._stream.flush()

    @contextmanager
    def _keep_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            if not self._lenient:
                raise

    def finish(self) -> None:
        """Write the buffered text. After an error, the interpreter must not try again at exit."""
        with suppress(OSError):
            self.flush()
        if self.error is not None:
            discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def streams() -> Iterator[SafeStream]:
    """Make stdout and stderr safe to use, even if the shell closed them. Yields stdout.

    Messages on stderr can get lost. Characters that an encoding lacks are escaped.
    """
    before = sys.stdout, sys.stderr
    _replace_closed()
    escape_unencodable()
    out, err = SafeStream(sys.stdout, lenient=False), SafeStream(sys.stderr, lenient=True)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield out
    finally:
        out.finish()
        err.finish()
        sys.stdout, sys.stderr = before


def _replace_closed() -> None:
    """Replace each closed stream by a file on which every read or write fails.

    Otherwise the next file that is opened would get the stream's number.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_WRONLY)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDONLY)
            setattr(sys, name, open(nowhere, "w", encoding="utf-8"))  # noqa: SIM115 - open until exit


def show(console: Console, text: str) -> None:
    """Print a text as one line; in a terminal, as lines of whole words, unless it is indented."""
    line = one_line(text, LONGEST_LINE)
    if console.is_terminal:
        line = fold_words(line, console.width)
    console.print(Text(line), soft_wrap=True)


def make_command(*words: object) -> str:
    """A command of this program, as a shell takes it."""
    return shlex.join([find_command("arena"), *map(str, words)])


def show_command(console: Console, *words: object) -> None:
    """Print a command to copy: indented, on one line."""
    show(console, f"  {make_command(*words)}")


def add_wide(parser: argparse._ActionsContainer) -> None:
    """Add the option --wide."""
    parser.add_argument(
        "--wide", action="store_true", help="show all columns, also on a narrow terminal"
    )


def make_console(*, wide: bool = False, stderr: bool = False) -> Console:
    """Standard output or error, as wide as the terminal; wide: wide enough for any table.

    Without a terminal it is wide: rich would assume 80 columns and break names and numbers.
    """
    stream = sys.stderr if stderr else sys.stdout
    fits = (stream.isatty() or "COLUMNS" in os.environ) and not wide
    width = None if fits else WIDE
    return Console(emoji=False, markup=False, highlight=False, width=width, stderr=stderr)


def show_table(
    console: Console,
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    rest: str = "use --json",
) -> None:
    """Print the columns that fit, and an explanation of each, like the report's tables.

    rest: how to see the columns that are left out.
    """
    safe = [[one_line(cell, LONGEST_LINE) for cell in row] for row in rows]

    def list_rows(limit: int) -> list[StyledRow]:
        return [
            ([Text(cell if " " in cell else break_name(cell, limit)) for cell in row], None)
            for row in safe
        ]

    print_fitting(console, columns, list_rows, rest=rest, plain=True)


def say(problem: object) -> None:
    """Print an error to stderr; each line starts with the command's name."""
    for line in str(problem).splitlines():
        text = f"arena: {one_line(line, LONGEST_LINE)}"
        sys.stderr.write(f"{fold(sys.stderr, text)}\n")


def say_some(problems: Collection[str]) -> None:
    """Print the first of many errors to stderr, and how many more there are."""
    for problem in list(problems)[:_MOST]:
        say(problem)
    if len(problems) > _MOST:
        say(f"and {len(problems) - _MOST:,} more")
