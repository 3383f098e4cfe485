"""What a command prints: tables for people, or one JSON document for programs.

On a terminal, control characters in the texts of models and providers are escaped. A file
or a pipe gets the exact text.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TextIO

from arena_llm.errors import ArenaError
from arena_llm.prices import format_dollars
from arena_llm.terminal import (
    discard,
    escape_on_terminal,
    escape_unencodable,
    fold,
    open_closed_files,
)
from arena_llm.types import (
    Completion,
    Credits,
    FreePrice,
    Price,
    PriceTable,
    PriceUnit,
    Usage,
)


class OutputError(Exception):
    """Standard output cannot be written. The text says why; it is empty for a closed pipe."""


class Output:
    """Writes results to stdout, and errors as one line to stderr.

    json: print one JSON document and nothing else, also for an error.
    """

    def __init__(self) -> None:
        self.json = False
        self._lossy = False
        open_closed_files()
        if sys.stderr is None:
            # argparse would write its errors to stdout.
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it stays open
        escape_unencodable()

    def begin(self, *, json: bool) -> None:
        """Set the format. Raises OutputError if stdout is closed, before a call costs money."""
        self.json = json
        _stdout()

    def document(self, value: Any) -> None:
        """Print a value, which may hold dataclasses, as the JSON document."""
        text = json.dumps(value, indent=2, ensure_ascii=False, default=as_plain)
        if not _encodable(text):
            text = json.dumps(value, indent=2, default=as_plain)
        self._write(text + "\n")

    def text(self, text: str, end: str = "\n") -> None:
        """Print text immediately."""
        if not (self._lossy or _stdout().isatty() or _encodable(text)):
            self._lossy = True
            self.warn(
                f"standard output is {_stdout().encoding}: other characters are written as "
                "escapes. Set PYTHONIOENCODING=utf-8 to write them exactly"
            )
        self._write(text + end)
        self.flush()

    def line(self, text: str) -> None:
        """Print text as one line."""
        self.text(_one_line(text))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows in columns, each cell on one line.

        On a terminal that is too narrow, the last cell of a row continues on further lines. If the
        other cells do not fit either, the first one has a line of its own.
        """
        stream = _stdout()
        cells = [
            header,
            *([escape_on_terminal(stream, _one_line(cell)) for cell in row] for row in rows),
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        room = None
        if stream.isatty():
            columns = shutil.get_terminal_size().columns
            room = columns - sum(widths[:-1]) - 2 * len(widths[:-1])
        stacked = room is not None and room < 0
        if room is not None and stacked:
            room += widths.pop(0) + 2 - _INDENT
        for row in cells:
            margin = " " * _INDENT if stacked else ""
            if stacked:
                self._write(row[0] + "\n")
            for line in _lay_out(row[1:] if stacked else row, widths, room):
                self._write((margin + line).rstrip() + "\n")

    def warn(self, line: str) -> None:
        """Print a line to stderr. With --json, print nothing: the document contains the fact."""
        if not self.json:
            self.complain(line)

    def error(self, error: ArenaError) -> None:
        """Print an error."""
        if self.json:
            self.document({"error": error_fields(error)})
        self.complain(str(error))

    def complain(self, line: str) -> None:
        """Print a line to stderr. If that fails, only the exit code reports the error."""
        try:
            text = escape_on_terminal(sys.stderr, f"arena-llm: {_one_line(line)}")
            sys.stderr.write(fold(sys.stderr, text) + "\n")
        except OSError:
            discard(sys.stderr)

    def flush(self) -> None:
        """Write the buffers, so that a failure is raised here and not at the exit of Python."""
        try:
            sys.stderr.flush()
        except OSError:
            discard(sys.stderr)
        if sys.stdout is not None:
            try:
                sys.stdout.flush()
            except OSError as error:
                raise _failure(error) from None

    def _write(self, text: str) -> None:
        stream = _stdout()
        try:
            stream.write(escape_on_terminal(stream, text))
        except OSError as error:
            raise _failure(error) from None


#: Properties that the JSON document shows beside the fields of a class.
_SHOWN: Mapping[type, tuple[str, ...]] = {Completion: ("text",), Usage: ("cost_usd",)}


def as_plain(value: Any) -> Any:
    """Convert a value to JSON's types, for json.dumps.

    A dataclass is an object, with its `kind` if it is one of several kinds; bytes are base64; an
    exact decimal is a string.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (*_SHOWN.get(type(value), ()), *(f.name for f in dataclasses.fields(value)))
        if "kind" in vars(type(value)) and "kind" not in names:
            names = ("kind", *names)
        return {name: getattr(value, name) for name in names}
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case Decimal():
            return f"{value.normalize():f}"
        case datetime():
            return value.isoformat()
        case Mapping():
            return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def error_fields(error: ArenaError) -> dict[str, Any]:
    """Return the attributes of an error, for the JSON document."""
    return vars(error)


def format_credits(credit: Credits | None) -> str:
    """Return the account's balance and the rest of the key's limit, such as "$9.50 / $2.00"."""
    amounts = (credit.balance_picousd, credit.limit_remaining_picousd) if credit else ()
    return " / ".join(format_dollars(left) for left in amounts if left is not None) or "-"


def format_price(price: Price | None) -> str:
    """Return US dollars for a million tokens; "0" for a free model."""
    match price:
        case FreePrice():
            return "0"
        case PriceTable(rates):
            by_unit = {rate.unit: rate.picousd for rate in reversed(rates)}
            units = ((PriceUnit.PROMPT_TOKEN, "in"), (PriceUnit.COMPLETION_TOKEN, "out"))
            known = (
                f"{_per_million(by_unit[unit])} {word}" for unit, word in units if unit in by_unit
            )
            return ", ".join(known) or "unknown"
    return "unknown"


def _per_million(picousd: int) -> str:
    """Return US dollars for a million units that cost this many 10^-12 US dollars each."""
    return f"{Decimal(picousd).scaleb(-6):,.6f}".rstrip("0").removesuffix(".")


#: A last column with less room than this moves below its row, with this indent (characters).
_NARROW, _INDENT = 24, 4


def _lay_out(row: Sequence[str], widths: Sequence[int], room: int | None) -> Iterator[str]:
    """Yield the lines of a row. room: characters for the last cell; None: any number."""
    *others, last = row
    line = "".join(f"{cell.ljust(width)}  " for cell, width in zip(others, widths, strict=False))
    if room is None or len(last) <= room:
        yield line + last
        return
    indent = len(line)
    if room < _NARROW:
        yield line
        line, indent = " " * _INDENT, _INDENT
        room = max(_NARROW, room + sum(widths[:-1]) + 2 * len(others) - _INDENT)
    # A long word, such as a URL or a path, stays whole.
    first, *rest = textwrap.wrap(last, room, break_long_words=False, break_on_hyphens=False)
    yield line + first
    yield from (" " * indent + text for text in rest)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _stdout() -> TextIO:
    # sys.stdout is None if the shell closed it (>&-).
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
    discard(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return OutputError()
    return OutputError(f"standard output cannot be written: {error.strerror}")
