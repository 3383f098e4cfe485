"""A game by name: OpenSpiel's, with its parameters checked."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import pyspiel

from arena.games.families import Family, family_of, known_bounds
from arena.games.parameters import ParameterError, check_parameters
from arena.games.state import CHANCE, LegalAction, State

__all__ = ["CHANCE", "Game", "GameError", "LegalAction", "State"]

#: The arena's own names: alias to OpenSpiel's.
ALIASES = {"matching_pennies": "matrix_mp"}

#: Characters of the longest name with parameters: OpenSpiel's own boards take a thousand.
_LONGEST = 10_000


class GameError(ValueError):
    """A game that cannot be played: names it, the reason, and what to write instead."""


class Game:
    """A game with its parameters; `new` starts one.

    name: the arena's. spec: OpenSpiel's string with parameters, such as
    "hex(board_size=5)", which `load` accepts as a name. family: its words for players and
    spectators. raw: OpenSpiel's game.
    """

    def __init__(self, raw: pyspiel.Game, family: Family) -> None:
        kind = raw.get_type()
        self.raw = raw
        self.family = family
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
        short, given = _checked(name, params or {})
        try:
            raw = pyspiel.load_game(short, given)
            _check_playable(raw)
            return cls(raw, family_of(raw))
        except MemoryError:
            raise GameError(f"game {short}: takes more memory than it may") from None
        except Exception as error:  # OpenSpiel's games raise whatever they come across
            raise GameError(f"game {short}: {_first_line(error)}") from None

    def new(self) -> State:
        """The first position."""
        return State(self.raw.new_initial_state(), self.family.board)


def needs_trial(name: str, params: Mapping[str, Any]) -> str:
    """The spec of a game that could take minutes or all memory to load; empty if it cannot.

    It can if it has a parameter whose bounds the arena does not know. Raises GameError.
    """
    short, given = _checked(name, params)
    if given.keys() <= known_bounds(short).keys():
        return ""
    return str(pyspiel.game_parameters_to_string({"name": short, **given}))


def _checked(name: str, params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """OpenSpiel's name of the game, and its parameters. Raises GameError."""
    if len(name) > _LONGEST:
        raise GameError(f"game {name[:50]!r}...: has more than {_LONGEST:,} characters")
    try:
        given = pyspiel.game_parameters_from_string(name)
    except pyspiel.SpielError as error:
        raise GameError(f"game {name!r}: {_first_line(error)}") from None
    short = given.pop("name", "")
    if not isinstance(short, str) or not short:
        raise GameError(f"game {name!r}: not a game's name")
    given.update(params)
    kind = _kind(ALIASES.get(short, short))
    try:
        check_parameters(short, given, kind, _kind)
    except ParameterError as error:
        raise GameError(str(error)) from None
    return kind.short_name, given


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


def _check_playable(game: pyspiel.Game) -> None:
    """Raises ValueError, or what OpenSpiel raises at the first positions."""
    kind = game.get_type()
    if kind.dynamics == pyspiel.GameType.Dynamics.MEAN_FIELD:
        raise ValueError("mean field games have no seats to play")
    if kind.chance_mode == pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC:
        raise ValueError("it draws its chance by itself, so no episode could be repeated")
    state = State(game.new_initial_state())
    rng = random.Random(0)  # noqa: S311 - any deal will do
    while state.is_chance:
        state.apply({CHANCE: state.draw_chance(rng).action})
    for seat in state.players_to_move():
        state.legal_actions(seat)  # a game or two has no numbers for them


def _first_line(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return re.sub(r"^/\S+:\d+ ", "", line)  # where it stands in OpenSpiel's source
