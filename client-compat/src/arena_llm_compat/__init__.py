"""The names of the original Game Reasoning Arena's `backends` package, over Arena LLM's router.

Importing this package makes `game_reasoning_arena.backends` the package `backends` in this folder,
even if the original project is installed. The original's files are not touched. A .pth file imports
this package whenever Python starts, so it imports as little as possible until it is used.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_ROOT = "game_reasoning_arena"
_BACKENDS = os.path.join(os.path.dirname(__file__), "backends")


class _BackendsFinder:
    """Finds `game_reasoning_arena.backends`. Python finds its modules in its folder as usual."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != f"{_ROOT}.backends":
            return None
        from importlib.util import spec_from_file_location

        file = os.path.join(_BACKENDS, "__init__.py")
        return spec_from_file_location(name, file, submodule_search_locations=[_BACKENDS])


class _RootFinder:
    """Finds `game_reasoning_arena` as an empty package, if the original is not installed."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != _ROOT:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, None, is_package=True)


# The first finder takes precedence over the original, and the second one comes after it.
sys.meta_path.insert(0, _BackendsFinder)
sys.meta_path.append(_RootFinder)
