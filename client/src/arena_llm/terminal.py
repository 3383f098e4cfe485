"""Terminals: escaping of unsafe text, and closed standard streams."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import textwrap
from typing import TextIO

# Characters that control a terminal, are invisible, or change the order of the text: control
# characters, direction marks, line separators, characters without width, tags and lone
# surrogates. Newline and tab are allowed, and the joiners U+200C and U+200D, which emoji
# and several scripts need.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def escape_unsafe(text: str) -> str:
    r"""Escape unsafe characters of a text as in JSON, such as \u001b.

    A JSON document stays valid. A text may be passed in pieces, because each character is
    escaped by itself.
    """
    return _UNSAFE.sub(_escape, text)


def one_line(text: str, max_length: int) -> str:
    """Return text as one safe line, with its end cut off after max_length characters."""
    line = escape_unsafe(re.sub(r"[\n\t]", " ", text[: max_length + 1]))
    return line if len(line) <= max_length else f"{line[: max_length - 1]}…"


def escape_on_terminal(stream: TextIO, text: str) -> str:
    """Escape unsafe characters for a terminal. A file or a pipe gets the exact text."""
    return escape_unsafe(text) if stream.isatty() else text


def fold(stream: TextIO, text: str) -> str:
    """Break the lines of a text between words, for a terminal. Files and pipes get the exact text.

    An indented line stays whole: it is a command to copy. So does a long word, such as a path.
    """
    if not stream.isatty():
        return text
    return fold_words(text, shutil.get_terminal_size().columns)


def fold_words(text: str, width: int) -> str:
    """Break the lines of a text between words. width: the most characters of a line."""
    fit = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    lines = text.split("\n")
    return "\n".join(
        line if len(line) <= width or line.startswith(" ") else fit.fill(line) for line in lines
    )


def open_closed_files() -> None:
    """Open /dev/null for each of the file descriptors 0 to 2 that is closed.

    Otherwise the next file or connection gets the number of stdout or stderr, and
    libraries write their messages into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # This takes the lowest free number.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def escape_unencodable() -> None:
    """Make stdout and stderr escape the characters that their encodings lack."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard(stream: TextIO) -> None:
    """Redirect to /dev/null a stream that cannot be written.

    Otherwise its buffered text fails again at the next write, or when Python exits.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]
