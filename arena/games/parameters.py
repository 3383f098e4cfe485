"""Checks a game's parameters: their names, types and bounds, and that none names a file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import pyspiel

from arena.games.text import text_bounds

#: OpenSpiel's string parameters that are plain values. All other string parameters may name a
#: file, which OpenSpiel would open and show in errors and positions.
TEXTS = frozenset(
    (
        "betting", "bettingAbstraction", "bidding_rule", "blind", "blind_schedule",
        "boardCards", "fen", "firstPlayer", "gameversion", "grid", "handReaches", "history",
        "maxRaises", "numBoardCards", "observation_type", "obstype", "payoff", "payoffs",
        "pile_sizes", "points_order", "raiseSize", "returns_type", "scoring_type",
        "ship_sizes", "ship_values", "stack", "string_rep",
    )
)  # fmt: skip

#: The range of OpenSpiel's integers.
_INTEGERS = (-(2**31), 2**31 - 1)

_FEN = re.compile(
    r"([KQRBNPkqrbnp1-8/]{1,99}) [wb] (?:-|[KQkq]{1,4}) (?:-|[a-h][1-8]) \d{1,4} \d{1,4}"
)


class ParameterError(ValueError):
    """A parameter is refused. The message names the game, the parameter and the reason."""


def check_parameters(
    game: str,
    parameters: Mapping[str, Any],
    kind: pyspiel.GameType,
    find_type: Callable[[str], pyspiel.GameType],
) -> None:
    """Raise ParameterError if a parameter is unknown, names a file, or is out of bounds.

    game: its name in error messages. find_type: the type of the game with a given name, for
    parameters that are games themselves.
    """
    defaults: dict[str, Any] = kind.parameter_specification
    bounds = {"players": (kind.min_num_players, kind.max_num_players)}
    bounds |= text_bounds(kind.short_name)
    for key, value in parameters.items():
        where = f"game {game}: parameter {key!r}"
        if key not in defaults:
            names = ", ".join(defaults) or "none"
            raise ParameterError(f"{where} is unknown; the parameters are: {names}")
        default = defaults[key]
        expected = type(default)
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise ParameterError(
                f"{where} must be of type {expected.__name__}, not {value!r} (default: {default!r})"
            )
        if value == default:  # a game's own default is allowed, such as -1 for "as many as fit"
            continue
        if isinstance(value, dict):
            inner = {name: item for name, item in value.items() if name != "name"}
            inner_kind = find_type(str(value.get("name")))
            check_parameters(f"{game}.{key}", inner, inner_kind, find_type)
        elif expected is str and key not in TEXTS:
            raise ParameterError(f"{where} may name a file: the arena opens no files for games")
        elif key == "fen" and value and not _is_position(value, parameters.get("board_size", 8)):
            raise ParameterError(f"{where} is not a chess position in FEN: {value!r}")
        elif expected is float and not math.isfinite(value):
            raise ParameterError(f"{where} must be a finite number, not {value}")
        elif expected is int:
            lowest, highest = bounds.get(key) or _default_bounds(default)
            if not lowest <= value <= highest:
                raise ParameterError(
                    f"{where} must be at least {lowest} and at most {highest}, not {value}"
                )


def _is_position(fen: str, size: int) -> bool:
    """Whether each rank has the right number of cells and each side has one king.

    OpenSpiel does not check this, and would write outside of its memory.
    """
    if not (match := _FEN.fullmatch(fen)):
        return False
    ranks = [re.sub(r"\d", lambda digit: "." * int(digit[0]), r) for r in match[1].split("/")]
    board = "".join(ranks)
    return [len(rank) for rank in ranks] == [size] * size and board.count("K") == board.count(
        "k"
    ) == 1


def _default_bounds(default: int) -> tuple[int, int]:
    """Return bounds for an integer parameter for which no GameText has bounds.

    Many games do not check their parameters: some crash the process at a 0, and a board of
    100,000 by 100,000 takes all memory.
    """
    return (1, max(1_000, 100 * default)) if default > 0 else _INTEGERS
