"""The text of each game: its rules, positions and measured length, one file a game.

Every module in this package is loaded, and its GameText classes are found without a list.
To add a game, add a module with a subclass that names the game in `games`.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module

import pyspiel

from arena.games.text.base import GameText, Playout
from arena.games.text.generic import GenericText

__all__ = [
    "UNKNOWN_PLAYOUT",
    "GameText",
    "Playout",
    "find_text",
    "measured_playouts",
    "register",
    "text_bounds",
]

#: Assumed for games that were not measured: near the median of the measured ones.
UNKNOWN_PLAYOUT = Playout(2, 60.0, 420)


#: In the order in which they are asked whether they describe a game.
_CLASSES: list[type[GameText]] = []


def register(text: type[GameText]) -> None:
    """Use a class for the games that it names. It takes precedence over earlier ones."""
    if text not in _CLASSES:
        _CLASSES.insert(0, text)


def _list_built_in() -> Iterator[type[GameText]]:
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for _, value in inspect.getmembers(import_module(module.name), inspect.isclass):
            if issubclass(value, GameText) and value.__module__ == module.name:
                yield value


for _text in reversed(list(_list_built_in())):
    register(_text)


def find_text(game: pyspiel.Game) -> GameText:
    """Return the game's own text, or a generic one.

    Raises ValueError if the text does not fit these parameters of the game.
    """
    own = (text for text in _CLASSES if text.describes(game))
    return next(own, GenericText)(game)


def text_bounds(name: str) -> Mapping[str, tuple[int, int]]:
    """Return the lowest and highest allowed value of the game's integer parameters."""
    return next((text.bounds for text in _CLASSES if name in text.games), {})


def measured_playouts() -> Mapping[str, Playout]:
    """Return the size of random episodes of all measured games, by OpenSpiel's name."""
    return {name: size for text in _CLASSES for name, size in sorted(text.playouts.items())}
