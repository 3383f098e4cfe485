"""A game by name: OpenSpiel's, with its parameters checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import pyspiel

from arena.games.state import LegalAction, State

__all__ = ["Game", "GameError", "LegalAction", "State"]

#: The arena's own names: alias to OpenSpiel's.
ALIASES = {"matching_pennies": "matrix_mp"}


class GameError(ValueError):
    """A game that cannot be played: names it, the reason, and what to write instead."""


class Game:
    """A game with its parameters; `new` starts one.

    name: the arena's. spec: OpenSpiel's string with parameters, such as
    "hex(board_size=5)", which `load` accepts as a name. raw: OpenSpiel's game.
    """

    def __init__(self, raw: pyspiel.Game) -> None:
        kind = raw.get_type()
        self.raw = raw
        self.name: str = _ARENA_NAMES.get(kind.short_name, kind.short_name)
        self.spec: str = str(raw).removesuffix("()")
        self.title: str = kind.long_name
        self.players: int = raw.num_players()
        self.simultaneous: bool = kind.dynamics == pyspiel.GameType.Dynamics.SIMULTANEOUS
        self.perfect_information: bool = (
            kind.information == pyspiel.GameType.Information.PERFECT_INFORMATION
        )
        self.deterministic: bool = kind.chance_mode == pyspiel.GameType.ChanceMode.DETERMINISTIC

    @classmethod
    def load(cls, name: str, params: Mapping[str, Any] | None = None) -> Game:
        """A game by the arena's or OpenSpiel's name, which may hold parameters itself.

        Raises GameError: unknown name, parameter or value; a game the arena cannot play.
        """
        try:
            given = pyspiel.game_parameters_from_string(name)
        except pyspiel.SpielError as error:
            raise GameError(f"game {name!r}: {_first_line(error)}") from None
        short = given.pop("name", "")
        if not isinstance(short, str) or not short:
            raise GameError(f"game {name!r}: not a game's name")
        given.update(params or {})
        kind = _kind(ALIASES.get(short, short))
        _check_parameters(short, given, kind)
        try:
            raw = pyspiel.load_game(kind.short_name, given)
            raw.new_initial_state()
        except (pyspiel.SpielError, ValueError, IndexError, MemoryError) as error:
            raise GameError(f"game {short}: {_first_line(error)}") from None
        _check_playable(short, raw.get_type())
        return cls(raw)

    def new(self) -> State:
        """The first position."""
        return State(self.raw.new_initial_state())


_ARENA_NAMES = {theirs: ours for ours, theirs in ALIASES.items()}


def _kind(name: str) -> pyspiel.GameType:
    if name.startswith("python_"):
        import open_spiel.python.games  # noqa: F401 - it registers them, slowly
    kinds = {kind.short_name: kind for kind in pyspiel.registered_games()}
    if name not in kinds:
        near = get_close_matches(name, [*kinds, *ALIASES], n=3)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise GameError(f"game {name!r}: OpenSpiel has no game of that name{hint}")
    return kinds[name]


def _check_parameters(game: str, given: Mapping[str, Any], kind: pyspiel.GameType) -> None:
    known: dict[str, Any] = kind.parameter_specification
    players = given.get("players", kind.min_num_players)
    if type(players) is int and not kind.min_num_players <= players <= kind.max_num_players:
        raise GameError(
            f"game {game}: parameter 'players' must be from {kind.min_num_players} "
            f"to {kind.max_num_players}, not {players}"
        )
    for key, value in given.items():
        if key not in known:
            has = ", ".join(known) or "none"
            raise GameError(f"game {game}: unknown parameter {key!r}; it has: {has}")
        default = known[key]
        wanted = type(default)
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise GameError(
                f"game {game}: parameter {key!r} must be of type {wanted.__name__}, "
                f"not {value!r} (default: {default!r})"
            )
        # Some games crash the process with sizes like these.
        if wanted is int and default > 0 and value < 1:
            raise GameError(f"game {game}: parameter {key!r} must be at least 1, not {value}")


def _check_playable(game: str, kind: pyspiel.GameType) -> None:
    if kind.dynamics == pyspiel.GameType.Dynamics.MEAN_FIELD:
        raise GameError(f"game {game}: mean field games have no seats to play")
    if kind.chance_mode == pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC:
        raise GameError(
            f"game {game}: it draws its chance by itself, so no episode could be repeated"
        )


def _first_line(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return re.sub(r"^/\S+:\d+ ", "", line)  # where it stands in OpenSpiel's source
