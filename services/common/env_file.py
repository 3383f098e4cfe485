"""Read a .env file, and say where it is not text."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_REMEDY = "save the file as UTF-8"

#: Stands for what cannot be read.
_UNREADABLE = "\ufffd"

_NAME = re.compile(r"(?:export\s+)?([^\s=#]+)")


def read_env_file(path: Path) -> tuple[Mapping[str, str | None], str]:
    """Return the variables of a file, and what is wrong with it: one sentence, or empty.

    A file that does not exist has no variables. In a broken one, what cannot be read becomes
    U+FFFD, so that the variables on the other lines can still be used.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"{path}: cannot be read: {error.strerror}"
    if content.startswith(_UTF16):
        text, problem = content.decode("utf-16", "replace"), f"{path}: is UTF-16: {_REMEDY}"
    else:
        text = content.decode("utf-8-sig", "replace")
        problem = _problem(path, content)
    good, unreadable = [], {}
    for statement in parse_stream(io.StringIO(text)):
        original = statement.original.string
        if not statement.error:
            good.append(original)
            continue
        body = original.lstrip()
        line = statement.original.line + original.count("\n", 0, len(original) - len(body))
        problem = problem or f"{path}: line {line}: is not NAME=value, or a quote is open"
        if name := _NAME.match(body):
            unreadable[name[1]] = _UNREADABLE
    return {**dotenv_values(stream=io.StringIO("".join(good))), **unreadable}, problem


def is_readable(text: str) -> bool:
    """False if a variable stands where the file is broken."""
    return not {_UNREADABLE, "\0"} & set(text)


def _problem(path: Path, content: bytes) -> str:
    try:
        content.decode("utf-8")
        place, what = content.find(b"\0"), "has a NUL byte"
    except UnicodeDecodeError as error:
        # The byte is not shown: it may be part of a key.
        place, what = error.start, "is not UTF-8 text"
    if place < 0:
        return ""
    line = content.count(b"\n", 0, place) + 1
    return f"{path}: line {line}: {what}: {_REMEDY}"
