"""Sets a service's variables from .env, and unsets the keys of other services."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from services.common.config import ConfigError

#: The file, in the working directory.
DOTENV = Path(".env")
#: The variables that it has set in this process.
_from_file: dict[str, str] = {}

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_REMEDY = "save the file as UTF-8"

#: Replaces bytes that cannot be read.
_UNREADABLE = "\ufffd"

_SINGLE_QUOTED = re.compile(r"[^=]*=\s*'")
_NAME = re.compile(r"(?:export\s+)?([^\s=#]+)")


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a variable matches one of the patterns, and none of those that begin with "!"."""
    matched = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if fnmatchcase(name, pattern[1:]):
                return False
        elif fnmatchcase(name, pattern):
            matched = True
    return matched


def load_dotenv(
    patterns: Sequence[str],
    warn: Callable[[str], None] | None = None,
    needed: Sequence[str] | None = None,
) -> None:
    """Set the variables of ./.env that match a pattern and are not set yet.

    No others are set, because a process must not hold a key that it does not use.

    Raises ConfigError if the file cannot be read. With `warn`, the problem is passed to it and
    the readable variables are set; ConfigError is then raised only if a variable that matches
    `needed` (default: `patterns`) cannot be read.
    """
    values, problem = read_env_file(DOTENV)
    if problem and warn is None:
        raise ConfigError(problem)
    if problem and warn is not None:
        warn(problem)
    for name, value in values.items():
        if not value or name in os.environ or not matches(name, patterns):
            continue
        if problem and not is_readable(name + value):
            if matches(name, patterns if needed is None else needed):
                raise ConfigError(f"{problem}; {name} is needed")
            continue
        try:
            os.environ[name] = value
            _from_file[name] = value
        except ValueError as error:  # its text contains characters of the value
            raise ConfigError(
                f".env: {name} contains characters that the environment's encoding "
                f"({sys.getfilesystemencoding()}) lacks"
            ) from error


class DotenvChange(NamedTuple):
    """What reading .env again has changed.

    names: of variables. undo: gives them their old values.
    """

    names: Sequence[str]
    undo: Callable[[], None]


def read_dotenv_again(patterns: Sequence[str]) -> DotenvChange:
    """Set the variables that `load_dotenv` has set, or would set now, to the file's new values.

    What the environment itself has set stays. Raises ConfigError if the file cannot be read.
    """
    values, problem = read_env_file(DOTENV)
    if problem:
        raise ConfigError(problem)
    new = {
        name: value
        for name, value in values.items()
        if value and matches(name, patterns) and (name in _from_file or name not in os.environ)
    }
    before, environ = dict(_from_file), dict(os.environ)

    def undo() -> None:
        _replace_all(_from_file, before)
        _replace_all(os.environ, environ)

    names = [name for name in {**before, **new} if before.get(name) != new.get(name)]
    for name in names:
        os.environ.pop(name, None)
        _from_file.pop(name, None)
        if name in new:
            os.environ[name] = _from_file[name] = new[name]
    return DotenvChange(names, undo)


def _replace_all(mapping: MutableMapping[str, str], values: Mapping[str, str]) -> None:
    for name in set(mapping) - set(values):
        del mapping[name]
    mapping.update(values)


def drop_other_keys(patterns: Sequence[str]) -> None:
    """Unset the *_API_KEY variables that match no pattern: they belong to other programs."""
    for name in list(os.environ):
        if fnmatchcase(name, "*_API_KEY") and not matches(name, patterns):
            del os.environ[name]


def read_env_file(path: Path) -> tuple[Mapping[str, str | None], str]:
    """Return the variables of a file, and what is wrong with it: one sentence, or "".

    A file that does not exist has no variables. In a broken file, U+FFFD replaces what
    cannot be read, so that the variables on the other lines can still be used.
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
    literal: dict[str, str | None] = {}  # in single quotes ${NAME} stands for itself, as in a shell
    for statement in parse_stream(io.StringIO(text)):
        original = statement.original.string
        if not statement.error:
            good.append(original)
            if statement.key is not None:
                literal.pop(statement.key, None)
                if _SINGLE_QUOTED.match(original):
                    literal[statement.key] = statement.value
            continue
        body = original.lstrip()
        line = statement.original.line + original.count("\n", 0, len(original) - len(body))
        problem = problem or f"{path}: line {line}: is not NAME=value, or a quote is open"
        if name := _NAME.match(body):
            unreadable[name[1]] = _UNREADABLE
    values = dotenv_values(stream=io.StringIO("".join(good)))
    return {**values, **literal, **unreadable}, problem


def is_readable(text: str) -> bool:
    """Whether all of a variable's text could be read."""
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
