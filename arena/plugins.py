"""Finds classes by dotted path, and those that installed packages offer as entry points.

The built-in agents and games are found in the same way, by their dotted paths.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TypeVar

_Class = TypeVar("_Class")

#: package.module:Class
_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_dotted_path(text: str) -> bool:
    """Whether a text is written as package.module:Class."""
    return _PATH.fullmatch(text) is not None


@cache
def find_installed(group: str) -> Mapping[str, str]:
    """Return the dotted paths of a group of entry points, by name."""
    return {point.name: point.value for point in entry_points(group=group)}


@cache
def load_class(path: str, base: type[_Class], name: str = "") -> type[_Class]:
    """Import a class by "package.module:Class", from Python's path or the working directory.

    name: of the class in error messages, if it has one. Raises ValueError if it cannot be imported
    or is not a subclass of `base`.
    """
    shown = name or path
    module, _, attribute = path.partition(":")
    if (folder := os.getcwd()) not in sys.path:
        # The command `arena` itself does not look for modules there.
        sys.path.append(folder)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module may raise anything while it is imported
        raise ValueError(f"{shown} cannot be loaded: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{shown} is not a subclass of {base.__module__}.{base.__qualname__}")
    return found
