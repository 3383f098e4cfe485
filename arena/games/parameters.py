"""Which parameters a game may have: names, types and bounds, and no files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import pyspiel

from arena.games.families import known_bounds

#: OpenSpiel's text parameters that are values. Every other one may name a file, which
#: OpenSpiel opens, and whose lines it shows in errors and positions.
TEXTS = frozenset(
    (
        "betting", "bettingAbstraction", "bidding_rule", "blind", "blind_schedule",
        "boardCards", "fen", "firstPlayer", "gameversion", "grid", "handReaches", "history",
        "maxRaises", "numBoardCards", "observation_type", "obstype", "payoff", "payoffs",
        "pile_sizes", "points_order", "raiseSize", "returns_type", "scoring_type",
        "ship_sizes", "ship_values", "stack", "string_rep",
    )
)  # fmt: skip

#: What OpenSpiel's integers hold.
_INTEGERS = (-(2**31), 2**31 - 1)

_FEN = re.compile(
    r"([KQRBNPkqrbnp1-8/]{1,99}) [wb] (?:-|[KQkq]{1,4}) (?:-|[a-h][1-8]) \d{1,4} \d{1,4}"
)


class ParameterError(ValueError):
    """A parameter that is refused: game, parameter and reason."""


def check_parameters(
    game: str,
    given: Mapping[str, Any],
    kind: pyspiel.GameType,
    find: Callable[[str], pyspiel.GameType],
) -> None:
    """Raise ParameterError for one that is unknown, a file, or out of bounds.

    game: the words for it. find: the game of a name, for games that are made of others.
    """
    known: dict[str, Any] = kind.parameter_specification
    bounds = {"players": (kind.min_num_players, kind.max_num_players)}
    bounds |= known_bounds(kind.short_name)
    for key, value in given.items():
        where = f"game {game}: parameter {key!r}"
        if key not in known:
            names = ", ".join(known) or "none"
            raise ParameterError(f"{where} is unknown; there are: {names}")
        default = known[key]
        wanted = type(default)
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise ParameterError(
                f"{where} must be of type {wanted.__name__}, not {value!r} (default: {default!r})"
            )
        if isinstance(value, dict):
            inner = {name: item for name, item in value.items() if name != "name"}
            check_parameters(f"{game}.{key}", inner, find(str(value.get("name"))), find)
        elif wanted is str and key not in TEXTS:
            raise ParameterError(f"{where} may name a file: the arena opens no files for games")
        elif key == "fen" and value and not _is_position(value, given.get("board_size", 8)):
            raise ParameterError(f"{where} is not a chess position in FEN: {value!r}")
        elif wanted is float and not math.isfinite(value):
            raise ParameterError(f"{where} must be a finite number, not {value}")
        elif wanted is int:
            least, most = bounds.get(key) or _usual_bounds(default)
            if not least <= value <= most:
                raise ParameterError(
                    f"{where} must be at least {least} and at most {most}, not {value}"
                )


def _is_position(fen: str, size: int) -> bool:
    """Whether each rank has its squares and each side its king: OpenSpiel does not check.

    It writes to memory that is not its own instead.
    """
    if not (found := _FEN.fullmatch(fen)):
        return False
    ranks = [re.sub(r"\d", lambda digit: "." * int(digit[0]), r) for r in found[1].split("/")]
    board = "".join(ranks)
    return [len(rank) for rank in ranks] == [size] * size and board.count("K") == board.count(
        "k"
    ) == 1


def _usual_bounds(default: int) -> tuple[int, int]:
    """Of a parameter that nobody has looked at.

    Many games check no bounds of their own: some crash the process with 0 of a thing, or
    take all memory for a board of 100,000 by 100,000.
    """
    return (1, max(1_000, 100 * default)) if default > 0 else _INTEGERS
