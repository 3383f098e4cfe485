"""What a command prints: tables for people, one JSON document for programs.

A terminal shows what models and providers wrote with its control characters
escaped; a file or a pipe gets the exact text.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from arena_llm.errors import ArenaError
from arena_llm.terminal import open_closed_files, shown_on


class OutputError(Exception):
    """Standard output takes no more; the text says why, and is empty where the reader has left."""


class Output:
    """Writes results to stdout, and errors as one line to stderr.

    json: print one JSON document and nothing else, an error included.
    """

    def __init__(self) -> None:
        self.json = False
        self._lossy = False
        open_closed_files()
        if sys.stderr is None:
            # argparse would write its errors to stdout.
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
        for stream in (sys.stdout, sys.stderr):
            # Shows \u265f rather than a traceback where the encoding lacks a character.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")

    def begin(self, *, json: bool) -> None:
        """Fail before a call is made for an answer that nobody would see."""
        self.json = json
        _stdout()

    def document(self, value: Any) -> None:
        """Print a value (dataclasses included) as the JSON document."""
        text = json.dumps(value, indent=2, ensure_ascii=False, default=plain)
        if not _encodable(text):
            text = json.dumps(value, indent=2, default=plain)
        self._write(text + "\n")

    def text(self, text: str, end: str = "\n") -> None:
        """Print text at once."""
        if not (self._lossy or _stdout().isatty() or _encodable(text)):
            self._lossy = True
            self.warn(
                f"standard output is {_stdout().encoding}: characters that it lacks are written "
                "as escapes. PYTHONIOENCODING=utf-8 writes them exactly"
            )
        self._write(text + end)
        self.flush()

    def line(self, text: str) -> None:
        """Print text as one line."""
        self.text(_one_line(text))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows in columns, each cell on one line."""
        stream = _stdout()
        cells = [header, *([shown_on(stream, _one_line(cell)) for cell in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self._write(line.rstrip() + "\n")

    def warn(self, line: str) -> None:
        """Print a line for people to stderr; the JSON document has it already."""
        if not self.json:
            self.complain(line)

    def error(self, error: ArenaError) -> None:
        """Print what went wrong."""
        if self.json:
            self.document({"error": error_fields(error)})
        self.complain(str(error))

    def complain(self, line: str) -> None:
        """Print a line to stderr. If that fails, nobody can be informed: the exit code remains."""
        try:
            sys.stderr.write(shown_on(sys.stderr, f"arena-llm: {_one_line(line)}") + "\n")
        except OSError:
            _discard(sys.stderr)

    def flush(self) -> None:
        """Write what is buffered, so that a failure shows here and not at exit."""
        try:
            sys.stderr.flush()
        except OSError:
            _discard(sys.stderr)
        if sys.stdout is not None:
            try:
                sys.stdout.flush()
            except OSError as error:
                raise _failure(error) from None

    def _write(self, text: str) -> None:
        stream = _stdout()
        try:
            stream.write(shown_on(stream, text))
        except OSError as error:
            raise _failure(error) from None


def plain(value: Any) -> Any:
    """A dataclass as a dict, for json.dumps."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def error_fields(error: ArenaError) -> dict[str, Any]:
    """An error's attributes, for a JSON document."""
    return vars(error)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _stdout() -> TextIO:
    # Python has none where the shell closed it (>&-).
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    return sys.stdout


def _encodable(text: str) -> bool:
    try:
        text.encode(_stdout().encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _failure(error: OSError) -> OutputError:
    _discard(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return OutputError()
    return OutputError(f"standard output cannot be written: {error.strerror}")


def _discard(stream: TextIO) -> None:
    """Lead a stream to nowhere, so that the interpreter does not fail on it at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
