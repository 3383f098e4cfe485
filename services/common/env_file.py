"""Read a .env file, and say where it is not text."""

from __future__ import annotations

import codecs
import io
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_REMEDY = "save the file as UTF-8"


def read_env_file(path: Path) -> tuple[Mapping[str, str | None], str]:
    """Return the variables of a file, and what is wrong with it: one sentence, or empty.

    A file that does not exist has no variables. In a broken one, what is not text becomes
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
    return dotenv_values(stream=io.StringIO(text)), problem


def is_readable(text: str) -> bool:
    """False if a variable stands where the file is not text."""
    return not {"\ufffd", "\0"} & set(text)


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
