"""What a command prints. Output that cannot be written does not make a command fail."""

from __future__ import annotations

import atexit
import re
import sys
from typing import TextIO

from arena_llm.terminal import (
    discard,
    escape_unencodable,
    escape_unsafe,
    fold,
    open_closed_files,
)

#: What stands between a name and its address.
_PLACE = re.compile(r"(?<=\S) on (?=\S+:\d|unix:)")
_JOINT = "\N{NO-BREAK SPACE}"


def open_streams() -> None:
    """Make the standard streams safe to use, however the command was started."""
    open_closed_files()
    escape_unencodable()
    # If Python cannot flush them at exit, it changes the exit status.
    for stream in (sys.stdout, sys.stderr):
        atexit.register(_write, stream, "")


def say(text: str) -> None:
    """Print a line of a command's result."""
    _write(sys.stdout, f"{text}\n")


def complain(text: str) -> None:
    """Print a line about a problem."""
    _write(sys.stderr, f"{text}\n")


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # the stream was closed when the command started
        return
    try:
        stream.write(_break_lines(stream, escape_unsafe(text)))
        stream.flush()
    except OSError as error:
        discard(stream)
        # A reader that has left (`make up | head -1`) needs no message.
        if stream is sys.stdout and not isinstance(error, BrokenPipeError):
            complain(f"the output cannot be written: {error.strerror}")


def _break_lines(stream: TextIO, text: str) -> str:
    """Break lines for a terminal. An address stays on the line of its name."""
    if not stream.isatty():
        return text
    return fold(stream, _PLACE.sub(f"{_JOINT}on{_JOINT}", text)).replace(_JOINT, " ")
