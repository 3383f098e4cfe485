"""Standard output and error of the command. Untrusted text cannot control the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from rich.console import Console
from rich.text import Text

from arena_llm.terminal import discard, escape_unencodable, one_line

#: Longer lines of messages and errors are cut.
LONGEST_LINE = 4_000


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
    """Print a text as one line, without wrapping it."""
    console.print(Text(one_line(text, LONGEST_LINE)), soft_wrap=True)


def show_table(console: Console, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns, without wrapping them."""
    cells = [header, *([one_line(cell, LONGEST_LINE) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print(Text(line.rstrip()), soft_wrap=True)


def say(problem: object) -> None:
    """Print an error to stderr; each line starts with the command's name."""
    for line in str(problem).splitlines():
        sys.stderr.write(f"arena: {one_line(line, LONGEST_LINE)}\n")
