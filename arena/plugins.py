"""Finds classes by dotted path or by entry point.

The arena offers its own agents and games as an installed package does: arena/entry_points.txt has
the format of a package's entry points, and the standard library reads both. They are not in
pyproject.toml, because code that was not installed has no entry points: a source folder on
PYTHONPATH, what Ray sends to its nodes, a pulled change before `make setup`.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from functools import cache
from importlib.metadata import Distribution, EntryPoints, entry_points
from pathlib import Path
from types import FrameType
from typing import TypeVar

from arena_llm.subclass import find_problem

_Class = TypeVar("_Class")

#: package.module:Class
_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

#: The top-level packages of the arena, and those of classes loaded from other packages.
_OURS = frozenset(("arena", "arena_llm"))
_others: set[str] = set()

#: What Python raises if a function is called with something that it does not expect.
_MISUSE = (TypeError, ValueError, AttributeError, LookupError)


class PluginError(Exception):
    """Code that is not the arena's has failed, such as an agent. The message says where and why."""


def find_plugin_error(error: Exception) -> PluginError | None:
    """Return a PluginError if code that is not the arena's caused an error, else None.

    A wrong argument in a call of the arena counts as an error of the caller.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    lines = [line for _, line in traceback.walk_tb(error.__traceback__)]
    places = [place for place, frame in enumerate(frames) if _find_package(frame) in _others]
    if not places or _find_package(type(error)) in _OURS:
        return None
    if any(_find_package(frame) in _OURS for frame in frames[places[-1] :]) and not (
        type(error).__module__ == "builtins" and isinstance(error, _MISUSE)
    ):
        return None
    code = frames[places[-1]].f_code
    return PluginError(
        f"{code.co_filename}, line {lines[places[-1]]}, in {code.co_qualname}: "
        f"{type(error).__name__}: {error}"
    )


def _find_package(code: FrameType | type) -> str:
    """The top-level package of what runs, or of a class."""
    module = code.__module__ if isinstance(code, type) else code.f_globals.get("__name__", "")
    return str(module).partition(".")[0]


def is_dotted_path(text: str) -> bool:
    """Whether a text is written as package.module:Class."""
    return _PATH.fullmatch(text) is not None


@cache
def find_built_in(group: str) -> dict[str, str]:
    """Return the dotted paths of a group of the arena's own entry points, by name."""
    return _list_paths(Distribution.at(Path(__file__).parent).entry_points.select(group=group))


@cache
def find_offered(group: str) -> dict[str, str]:
    """Return the dotted paths of a group of entry points, by name: the arena's own ones first.

    An installed package cannot replace one of these.
    """
    own = find_built_in(group)
    return {**own, **_list_paths(entry_points(group=group)), **own}


def load_offered(group: str, name: str, base: type[_Class]) -> type[_Class]:
    """Import the class that is offered under a name. Raises ValueError."""
    if name not in find_built_in(group):
        offers = {
            point.value: f"{point.value} of the package {point.dist.name if point.dist else '?'}"
            for point in entry_points(group=group)
            if point.name == name
        }
        if len(offers) > 1:
            raise ValueError(
                f"{name} is offered by {' and '.join(sorted(offers.values()))}: name one of them "
                "by its path"
            )
    path = find_offered(group)[name]
    return load_class(path, base, f"{name} ({path})")  # type: ignore[arg-type]  # it is hashable


def _list_paths(points: EntryPoints) -> dict[str, str]:
    return {point.name: point.value for point in points}


@cache
def load_class(path: str, base: type[_Class], name: str = "") -> type[_Class]:
    """Import a class by "package.module:Class", from Python's path or the working directory.

    name: of the class in error messages, if it has one. Raises ValueError if it cannot be imported,
    is not a subclass of `base` or lacks methods of it.
    """
    shown = name or path
    module, _, attribute = path.partition(":")
    if (folder := os.getcwd()) not in sys.path:
        # The command `arena` itself does not look for modules there.
        sys.path.append(folder)
    if (package := module.partition(".")[0]) not in _OURS:
        _others.add(package)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module may raise anything while it is imported
        reason = find_plugin_error(error) or f"{type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError) and error.name in (module, package):
            reason = f"{reason}; Python's path and the working directory, {folder}, do not have it"
        raise ValueError(f"{shown} cannot be loaded: {reason}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{shown} is not a subclass of {base.__module__}.{base.__qualname__}")
    if problem := find_problem(found, base):
        raise ValueError(f"{shown} {problem}")
    return found
