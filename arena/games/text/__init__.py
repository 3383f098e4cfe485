"""The text of each game: its rules, positions and measured length, one file a game.

To add a game, add a module with a subclass of GameText that names the game in `games`, and its
entry point in arena/entry_points.txt.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyspiel

from arena.games.text.base import GameText, Playout
from arena.games.text.generic import GenericText
from arena.plugins import find_built_in, is_dotted_path, load_class, load_offered

__all__ = [
    "GROUP",
    "UNKNOWN_PLAYOUT",
    "GameText",
    "Playout",
    "find_text",
    "has_text",
    "load_text",
    "measured_playouts",
    "text_bounds",
]

#: The arena and installed packages offer games under this group of entry points: OpenSpiel's name
#: of a game, and a subclass of GameText whose module registers the game if OpenSpiel lacks it.
GROUP = "arena.games"

#: Assumed for games that were not measured: near the median of the measured ones.
UNKNOWN_PLAYOUT = Playout(2, 60.0, 420)


#: In the order in which they are asked whether they describe a game.
_CLASSES: list[type[GameText]] = []


def load_text(name: str) -> type[GameText]:
    """Import a class by its dotted path or the name under which it is offered, and use it for the
    games that it names.

    It takes precedence over classes that were loaded before it. Raises ValueError.
    """
    text: type[GameText] = (
        load_class(name, GameText) if is_dotted_path(name) else load_offered(GROUP, name, GameText)  # type: ignore[type-abstract]
    )
    if text not in _CLASSES:
        _CLASSES.insert(0, text)
    return text


def has_text(name: str) -> bool:
    """Whether a class for a game, by OpenSpiel's name of it, is loaded."""
    return any(name in text.games for text in _CLASSES)


for _name in reversed(find_built_in(GROUP)):
    load_text(_name)


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
