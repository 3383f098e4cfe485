"""The base class for the text that describes a game to players and spectators."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import pyspiel

from arena.games.state import CHANCE, LegalAction, Played, State


class Playout(NamedTuple):
    """The mean size of an episode between random players, from 200 episodes.

    players: number of seats. moves: all players' moves in an episode; simultaneous moves count
    one for each player. prompt_tokens: the length of one prompt with reply format json, counted
    by the embedded model's tokenizer. Better players may end a game sooner.
    """

    players: int
    moves: float
    prompt_tokens: float


class GameText(ABC):
    """The text for one game with its parameters.

    `rules` stays the same during a game and for all seats, so that prompts can start with it
    and inference servers can cache this prefix. `position` and `note` contain only what the
    seat may see.

    games: OpenSpiel's names of the games that the class describes. bounds: lowest and highest
    allowed value of integer parameters that OpenSpiel does not check itself: other values may
    crash it. playouts: by OpenSpiel's name, measured with the game's default parameters
    by scripts/utils/measure_games.py. generic: the rules are not written out, so that results
    also depend on what a model knows about the game. case_matters: two different actions may
    differ only in upper and lower case. ornaments: characters at the end of an action's name that
    are a comment on it, such as + for check. forms: names of other ways to write a position.
    """

    games: ClassVar[tuple[str, ...]] = ()
    bounds: ClassVar[Mapping[str, tuple[int, int]]] = {}
    playouts: ClassVar[Mapping[str, Playout]] = {}
    generic: bool = False
    case_matters: bool = False
    ornaments: str = ""
    forms: ClassVar[tuple[str, ...]] = ()
    rules: str

    @abstractmethod
    def __init__(self, game: pyspiel.Game) -> None:
        """Raises ValueError if the text does not fit these parameters of the game."""

    @classmethod
    def describes(cls, game: pyspiel.Game) -> bool:
        """Whether this class has the text for the game."""
        return game.get_type().short_name in cls.games

    def side(self, seat: int) -> str:
        """Return a line that says which player the seat is, and which pieces are its own."""
        return f"You are player {seat}."

    @abstractmethod
    def position(self, state: State, seat: int) -> str:
        """Return the position as the seat sees it."""

    def position_as(self, form: str, state: State, seat: int) -> str:
        """Return the position as the seat sees it, in one of the `forms`."""
        raise ValueError(f"there is no form {form!r}")

    def note(self, state: State, seat: int, action: LegalAction) -> str:
        """Return what a legal action means in this position; "" if its name is enough."""
        return ""

    def aliases(self, text: str) -> tuple[str, ...]:
        """Return other usual names of an action; `text` is OpenSpiel's name of it."""
        return ()

    def aliases_at(self, state: State, action: LegalAction) -> tuple[str, ...]:
        """Return other usual names of an action in this position.

        A name that several actions share is ignored.
        """
        return ()

    def board(self, state: State) -> str:
        """Return the position as a spectator sees it, with all hidden information."""
        return str(state)


def player(seat: int) -> str:
    """Return the name of a seat in prompts."""
    return f"player {seat}"


def list_moves(moves: Sequence[Played], most: int = 40) -> str:
    """Return moves with their players, oldest first: "player 0: c3, player 1: c4"."""
    shown = [describe_move(move) for move in moves[-most:]]
    left_out = len(moves) - len(shown)
    before = [f"({count(left_out, 'earlier move')} left out)"] if left_out else []
    return ", ".join((*before, *shown)) or "none"


_OUTCOME = re.compile(r"chance outcome \d+ (.+)")


def describe_move(played: Played) -> str:
    """Return a move with its player; chance is a player as well."""
    if played.seat != CHANCE:
        return f"{player(played.seat)}: {played.text.strip()}"
    # Some of OpenSpiel's names have a number, and the meaning after it.
    match = _OUTCOME.fullmatch(played.text)
    text = match[1].removeprefix("(").removesuffix(")") if match else played.text
    return text if text.lower().startswith("chance") else f"chance: {text}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: "1 card", "2 cards"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


#: Parameters of OpenSpiel that change how a state is stored or drawn, but not the game.
TECHNICAL = frozenset(
    (
        "ansi_color_output", "boards_file", "calcOddsNumSims", "egocentric",
        "egocentric_obs_tensor", "instances_file", "num_tricks_in_observation", "plain_obs_tensor",
        "string_rep",
    )
)  # fmt: skip


def find_parameters(game: pyspiel.Game) -> dict[str, Any]:
    """Return all parameters, defaults included.

    OpenSpiel's own list lacks some defaults. Where the game decides about one, it is empty.
    """
    defaults: dict[str, Any] = game.get_type().parameter_specification
    values: dict[str, Any] = game.get_parameters()
    return {name: value for name, value in defaults.items() if value} | values


def list_parameters(game: pyspiel.Game) -> str:
    """Return the values of all parameters that change the game, defaults included."""
    values = find_parameters(game)
    shown = (f"{name}={_show(values[name])}" for name in sorted(values) if name not in TECHNICAL)
    return ", ".join(shown) or "none"


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return str(pyspiel.game_parameters_to_string(value))
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(text) if "\n" in text or not text else text


def list_cells(rows: Sequence[tuple[str, Sequence[str]]], name: Callable[[str, int], str]) -> str:
    """Return the cells of a grid as a list for each kind of piece; "." is a free cell.

    name: returns the name of a cell, given the row's name and the column's number.
    """
    found: dict[str, list[str]] = {}
    for row, cells in rows:
        for column, piece in enumerate(cells):
            if piece != ".":
                found.setdefault(piece, []).append(name(row, column))
    lines = (f"{piece}: {', '.join(cells)}" for piece, cells in sorted(found.items()))
    return "\n".join(lines) or "none"


def draw_grid(rows: Sequence[tuple[str, Sequence[str]]], columns: Sequence[str]) -> str:
    """Draw cells as a text table, with the columns' names above and the rows' names on the left."""
    left = max(len(name) for name, _ in rows)
    width = max(len(name) for name in columns)
    head = " " * (left + 1) + " ".join(name.rjust(width) for name in columns)
    lines = (
        f"{name.rjust(left)} {' '.join(cell.rjust(width) for cell in cells)}"
        for name, cells in rows
    )
    return "\n".join((head, *lines))
