"""Loads a game by name, with its parameters checked."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from typing import Any

import pyspiel

from arena.games.parameters import ParameterError, check_parameters
from arena.games.state import CHANCE, LegalAction, State
from arena.games.text import GROUP, GameText, find_text, has_text, load_text, text_bounds
from arena.plugins import find_offered, find_plugin_error, is_dotted_path
from arena_llm.suggestions import did_you_mean

__all__ = ["ALIASES", "CHANCE", "Game", "GameError", "LegalAction", "State", "needs_trial"]

#: The arena's own names of games, and OpenSpiel's names of the same games.
ALIASES = {"matching_pennies": "matrix_mp"}

#: Maximum length of a name with parameters: OpenSpiel's longest defaults have 1,000 characters.
_MAX_NAME_LENGTH = 10_000


class GameError(ValueError):
    """A game cannot be played. The message names the game, the reason and the fix."""


class Game:
    """A game with its parameters; `new` starts an episode.

    name: the arena's name. spec: OpenSpiel's name with parameters, such as
    "hex(board_size=5)", or with a dotted path in place of the name; `load` accepts it as a name.
    text: describes the game to players and spectators. raw: OpenSpiel's game.
    """

    def __init__(self, raw: pyspiel.Game, text: GameText, path: str = "") -> None:
        kind = raw.get_type()
        self.raw = raw
        self.text = text
        self.name: str = _ARENA_NAMES.get(kind.short_name, kind.short_name)
        spec = str(raw).removesuffix("()")
        # Any process that loads the game by its spec must be able to import it.
        self.spec: str = path + spec.removeprefix(kind.short_name) if path else spec
        self.title: str = kind.long_name
        self.players: int = raw.num_players()
        self.simultaneous: bool = kind.dynamics == pyspiel.GameType.Dynamics.SIMULTANEOUS
        self.perfect_information: bool = (
            kind.information == pyspiel.GameType.Information.PERFECT_INFORMATION
        )
        self.deterministic: bool = kind.chance_mode == pyspiel.GameType.ChanceMode.DETERMINISTIC

    @classmethod
    def load(cls, name: str, params: Mapping[str, Any] | None = None) -> Game:
        """Load a game by the arena's or OpenSpiel's name, which may include parameters.

        A name can also be the dotted path of a subclass of GameText, such as
        "examples.race:Race(goal=30)", whose module registers the game with OpenSpiel. It is
        imported, so it must not come from a results file.

        Raises GameError for an unknown name, parameter or value, and for a game that the arena
        cannot play.
        """
        short, parameters = _parse(name, params or {})
        try:
            raw = pyspiel.load_game(short, parameters)
            state = _check_playable(raw)
            text = find_text(raw)
            if not type(text).__module__.startswith("arena."):
                _check_text(text, state)
            return cls(raw, text, find_path(name))
        except MemoryError:
            raise GameError(f"game {short}: needs more memory than the limit") from None
        except Exception as error:  # OpenSpiel's games raise errors of many types
            reason = find_plugin_error(error) or _first_line(error)
            raise GameError(f"game {short}: {reason}") from None

    @property
    def identity(self) -> str:
        """OpenSpiel's name and all parameters, also those with default values, as JSON."""
        parameters = {"name": self.raw.get_type().short_name, **self.raw.get_parameters()}
        return json.dumps(parameters, sort_keys=True, separators=(",", ":"), default=str)

    def new(self) -> State:
        """Return the initial position."""
        return State(self.raw.new_initial_state(), self.text.board)


def needs_trial(name: str, params: Mapping[str, Any]) -> str:
    """Return the spec of a game that might take minutes or all memory to load, else "".

    A game might if it has a parameter for which the arena knows no bounds. Raises GameError.
    """
    short, parameters = _parse(name, params)
    if parameters.keys() <= text_bounds(short).keys():
        return ""
    spec = str(pyspiel.game_parameters_to_string({"name": short, **parameters}))
    path = find_path(name)
    return path + spec.removeprefix(short) if path else spec


def _parse(name: str, params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return OpenSpiel's name of the game, and its checked parameters. Raises GameError."""
    if len(name) > _MAX_NAME_LENGTH:
        raise GameError(f"game {name[:50]!r}...: is longer than {_MAX_NAME_LENGTH:,} characters")
    path = find_path(name)
    try:
        # OpenSpiel does not read dotted paths.
        parameters = pyspiel.game_parameters_from_string(
            f"own{name.removeprefix(path)}" if path else name
        )
    except pyspiel.SpielError as error:
        raise GameError(f"game {name!r}: {_first_line(error)}") from None
    short = parameters.pop("name", "")
    if not isinstance(short, str) or not short:
        raise GameError(f"game {name!r}: is not the name of a game")
    parameters.update(params)
    if path:
        short = _import_game(path)
    kind = _find_type(ALIASES.get(short, short))
    try:
        check_parameters(short, parameters, kind, _find_type)
    except ParameterError as error:
        raise GameError(str(error)) from None
    return kind.short_name, parameters


def find_path(name: str) -> str:
    """Return the dotted path in a game's name; "" for a game of OpenSpiel or of a package."""
    path = name.partition("(")[0]
    return path if is_dotted_path(path) else ""


def _import_game(path: str) -> str:
    """Import the class of a game, which registers it. Returns OpenSpiel's name of the game."""
    text = _import_text(path)
    if not text.games or isinstance(text.games, str):
        raise GameError(f'game {path}: its class attribute must be `games = ("NAME",)`')
    return str(text.games[0])


def _import_text(name: str) -> type[GameText]:
    """Import a class of words by its dotted path, or the name under which it is offered."""
    try:
        return load_text(name)
    except ValueError as error:
        raise GameError(f"game {error}") from None


_ARENA_NAMES = {theirs: ours for ours, theirs in ALIASES.items()}


def _find_type(name: str) -> pyspiel.GameType:
    if name.startswith("python_"):
        # This import registers them. It is slow.
        import open_spiel.python.games  # noqa: F401
    offered = find_offered(GROUP)
    if name in offered and not has_text(name):
        _import_text(name)
    kinds = {kind.short_name: kind for kind in pyspiel.registered_games()}
    if name not in kinds:
        hint = did_you_mean(name, [*kinds, *ALIASES, *offered])
        raise GameError(f"game {name!r}: OpenSpiel has no game with this name{hint}")
    return kinds[name]


def _check_playable(game: pyspiel.Game) -> State:
    """Return the first position in which a player moves.

    Raises ValueError, or OpenSpiel's own error, if it cannot be played.
    """
    kind = game.get_type()
    if kind.dynamics == pyspiel.GameType.Dynamics.MEAN_FIELD:
        raise ValueError("is a mean field game, which has no seats for players")
    if kind.chance_mode == pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC:
        raise ValueError("draws its own chance events, so episodes could not be repeated")
    state = State(game.new_initial_state())
    rng = random.Random(0)  # noqa: S311 - any deal is good enough
    while state.is_chance:
        state.apply({CHANCE: state.draw_chance(rng).action})
    for seat in state.players_to_move():
        state.legal_actions(seat)  # fails in games that do not number their actions
    return state


def _check_text(text: GameText, state: State) -> None:
    """Raise ValueError, or what the class raises, if its words cannot be used in a position."""
    where = f"{type(text).__module__}.{type(text).__qualname__}"
    words: list[tuple[str, object]] = [
        ("rules", getattr(text, "rules", None)),
        ("board", text.board(state)),
    ]
    for seat in state.players_to_move():
        words += [("side", text.side(seat)), ("position", text.position(state, seat))]
        for action in state.legal_actions(seat):
            words.append(("note", text.note(state, seat, action)))
            for method, found in (
                ("aliases", text.aliases(action.text)),
                ("aliases_at", text.aliases_at(state, action)),
            ):
                if not isinstance(found, tuple):
                    raise ValueError(f"{where}: {method} returned no tuple")
                words += [(f"a name of {method}", name) for name in found]
    for name, value in words:
        if not isinstance(value, str):
            raise ValueError(f"{where}: {name} is {type(value).__name__}, and must be text")


def _first_line(error: BaseException) -> str:
    """Return an error's first line, without the place in OpenSpiel's source."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return re.sub(r"^/\S+:\d+ ", "", line)
