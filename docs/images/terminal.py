"""A terminal of 100 columns: types commands into a real shell, and draws what it shows as SVG."""

from __future__ import annotations

import codecs
import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS, ROWS = 100, 100
PROMPT = "$"
_RESET = "\x1b[0m"
#: A sequence that moves the cursor or changes the style; one that names the window; a control
#: character; text.
_TOKEN = re.compile(
    r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\].*?(?:\x07|\x1b\\)|\x1b[^\[\]]|[\r\n\b\x07]|."
)
#: The start of a sequence whose end has not been read yet.
_OPEN = re.compile(r"\x1b(\[[?\d;]*|\][^\x07\x1b]*)?$")

#: All colours have a contrast of at least 4.5 with the background.
_THEME = TerminalTheme(
    (27, 31, 36),
    (225, 228, 232),
    [
        *((110, 118, 129), (255, 123, 114), (86, 211, 100), (227, 179, 65)),
        *((121, 192, 255), (210, 168, 255), (86, 212, 221), (225, 228, 232)),
    ],
    [
        *((139, 148, 158), (255, 161, 152), (126, 231, 135), (242, 204, 96)),
        *((165, 214, 255), (226, 197, 255), (179, 240, 255), (255, 255, 255)),
    ],
)
#: Without the font that rich names, because GitHub loads no fonts. The viewer's system has one.
_FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; white-space: pre;
}}
.{unique_id}-title {{ font-family: system-ui, sans-serif; font-size: 18px; }}
{styles}
</style>
<defs>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Screen:
    """What a terminal shows after the bytes that it was sent."""

    def __init__(self) -> None:
        self._rows: list[list[tuple[str, str]]] = [[]]
        self.row = self._column = 0
        self._style = ""
        self._rest = ""

    def feed(self, text: str) -> None:
        """Show more output. A sequence may be cut anywhere."""
        text = self._rest + text
        cut = _OPEN.search(text)
        self._rest = text[cut.start() :] if cut else ""
        for token in _TOKEN.finditer(text, 0, cut.start() if cut else len(text)):
            if token[2]:
                self._control(token[1], token[2])
            elif token[0] == "\r":
                self._column = 0
            elif token[0] == "\n":
                self._move_to(self.row + 1)
            elif token[0] == "\b":
                self._column = max(self._column - 1, 0)
            elif token[0] >= " ":
                self._put(token[0])

    def line(self) -> str:
        """The line of the cursor, without its styles."""
        return self._plain(self.row)

    def text(self) -> str:
        """All lines, without their styles."""
        return "\n".join(self._plain(row) for row in range(len(self._rows)))

    def ansi(self) -> str:
        """All lines with their styles, without empty ones at the end."""
        lines = [
            "".join(
                style + "".join(char for char, _ in cells) + _RESET
                for style, cells in groupby(row, key=itemgetter(1))
            )
            for row in self._rows
        ]
        while lines and not self._plain(len(lines) - 1):
            lines.pop()
        return "\n".join(lines)

    def _plain(self, row: int) -> str:
        return "".join(char for char, _ in self._rows[row]).rstrip()

    def _move_to(self, row: int) -> None:
        self.row = max(row, 0)
        while len(self._rows) <= self.row:
            self._rows.append([])

    def _put(self, char: str) -> None:
        if self._column == COLUMNS:
            self._column = 0
            self._move_to(self.row + 1)
        cells = self._rows[self.row]
        cells += [(" ", "")] * (self._column + 1 - len(cells))
        cells[self._column] = char, self._style
        self._column += 1

    def _control(self, parameters: str, letter: str) -> None:
        numbers = [int(part or 0) for part in parameters.lstrip("?").split(";")]
        count = max(numbers[0], 1)
        if letter == "m":
            self._style = "" if numbers[-1] == 0 else f"{self._style}\x1b[{parameters}m"
        elif letter in "AB":
            self._move_to(self.row + (count if letter == "B" else -count))
        elif letter in "CD":
            self._column = min(max(self._column + (count if letter == "C" else -count), 0), COLUMNS)
        elif letter == "G":
            self._column = count - 1
        elif letter == "H":
            self._move_to(count - 1)
            self._column = max(numbers[1], 1) - 1 if len(numbers) > 1 else 0
        elif letter == "K":
            start = 0 if numbers[0] == 2 else self._column
            del self._rows[self.row][start:]
        elif letter == "J" or parameters == "?1049":  # the second screen begins empty
            self._rows = [[] for _ in self._rows]


class Terminal:
    """A shell in a pseudo-terminal. A command is typed, and its output is awaited."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self.screen = Screen()
        self._read, shell = pty.openpty()
        fcntl.ioctl(shell, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        variables = {
            **environ,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "HISTFILE": "/dev/null",
            "PYTHON_BASIC_REPL": "1",
            "PS1": rf"\[\e[1;32m\]{PROMPT}\[\e[0m\] ",
        }
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"], stdin=shell, stdout=shell, stderr=shell,
            env=variables, cwd=folder, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(shell)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Self:
        self.wait(lambda: self.screen.line() == PROMPT)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._read)  # what still runs in it gets SIGHUP
        self._process.kill()
        self._process.wait()

    def type(self, line: str) -> None:
        """Type a line, and the key Enter."""
        os.write(self._read, f"{line}\n".encode())

    def run(self, line: str, prompt: str = PROMPT) -> None:
        """Type a command, and wait for the prompt that follows its output."""
        row = self.screen.row
        self.type(line)
        self.wait(lambda: self.screen.row > row and self.screen.line() == prompt)

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait until the command has ended."""
        os.write(self._read, b"\x03")
        self.wait(lambda: self.screen.line() == PROMPT)

    def wait(self, seen: Callable[[], object], seconds: float = 300) -> None:
        """Show what comes, until it is seen."""
        end = time.monotonic() + seconds
        while not seen():
            if not select.select([self._read], [], [], max(end - time.monotonic(), 0))[0]:
                raise TimeoutError(f"the terminal shows:\n{self.screen.text()}")
            self.screen.feed(self._decoder.decode(os.read(self._read, 65536)))

    def draw(self, title: str, path: Path, lines: slice = slice(None)) -> None:
        """Write what the screen shows, or some of its lines, as a picture."""
        draw(self.screen.ansi().split("\n")[lines], title, path)


def draw(lines: Sequence[str], title: str, path: Path) -> None:
    """Write lines with their styles as SVG, in the window of a terminal."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True,
        color_system="truecolor", legacy_windows=False,
    )  # fmt: skip
    console.print(Text.from_ansi("\n".join(lines), no_wrap=True), crop=True)
    svg = console.export_svg(title=title, theme=_THEME, code_format=_FORMAT, unique_id="t")
    path.write_text("\n".join(line.rstrip() for line in svg.split("\n")))
