"""The arena's own agents and games are offered as those of an installed package."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from importlib.metadata import EntryPoints
from types import ModuleType
from typing import TypeVar

import pytest

import arena.agents
import arena.games.text
from arena import plugins
from arena.agents.base import Agent
from arena.agents.registry import find_agent
from arena.games.text import GameText
from arena.games.text.disguises import DisguiseText
from arena.games.text.generic import GenericText

_Class = TypeVar("_Class")


def list_classes(package: ModuleType, base: type[_Class]) -> set[type[_Class]]:
    """The complete subclasses of `base` that the modules of a package define."""
    return {
        value
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        for _, value in inspect.getmembers(import_module(module.name), inspect.isclass)
        if issubclass(value, base) and value.__module__ == module.name
        if not inspect.isabstract(value)
    }


@pytest.mark.parametrize(
    ("group", "package", "base"),
    [("arena.agents", arena.agents, Agent), ("arena.games", arena.games.text, GameText)],
)
def test_everything_built_in_is_offered(group: str, package: ModuleType, base: type) -> None:
    offered = {plugins.load_class(path, base) for path in plugins.find_built_in(group).values()}
    # Of no game: the words of any other game, and a base class.
    assert offered == list_classes(package, base) - {GenericText, DisguiseText}


def test_each_name_of_a_game_is_offered() -> None:
    """An installed package offers a game under OpenSpiel's name, and so does the arena."""
    names = plugins.find_built_in("arena.games")
    for text in list_classes(arena.games.text, GameText):
        assert names.keys() >= {*text.games, *text.playouts}, text


def test_nothing_needs_the_arena_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints(()))
    plugins.find_offered.cache_clear()
    assert find_agent("random").__name__ == "RandomAgent"
    plugins.find_offered.cache_clear()
