"""What a command prints: tables for people, one JSON document for programs."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from typing import Any

from arena_llm.errors import ArenaError


class Output:
    """Writes results to stdout, and errors as one line to stderr.

    json: print one JSON document and nothing else, an error included.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json
        for stream in (sys.stdout, sys.stderr):
            # A terminal that lacks a character shows "?" rather than a traceback.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")

    def document(self, value: Any) -> None:
        """Print a value (dataclasses included) as the JSON document."""
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=plain) + "\n")

    def text(self, text: str, end: str = "\n") -> None:
        """Print text as it is, at once."""
        sys.stdout.write(text + end)
        sys.stdout.flush()

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows in columns, each cell on one line."""
        cells = [header, *([" ".join(cell.split()) for cell in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            sys.stdout.write(line.rstrip() + "\n")

    def warn(self, line: str) -> None:
        """Print a line for people to stderr; the JSON document has it already."""
        if not self.json:
            sys.stderr.write(f"arena-llm: {' '.join(line.split())}\n")

    def error(self, error: ArenaError) -> None:
        """Print what went wrong."""
        if self.json:
            self.document({"error": error_fields(error)})
        sys.stderr.write(f"arena-llm: {' '.join(str(error).split())}\n")

    def flush(self) -> None:
        """Write what is buffered, so that a closed pipe shows here and not at exit."""
        sys.stdout.flush()


def plain(value: Any) -> Any:
    """A dataclass as a dict, for json.dumps."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def error_fields(error: ArenaError) -> dict[str, Any]:
    """An error's attributes, for a JSON document."""
    return vars(error)
