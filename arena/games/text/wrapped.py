"""Games that OpenSpiel makes of another game, described by the text of that game."""

from __future__ import annotations

import pyspiel

from arena.games.state import LegalAction, State
from arena.games.text.base import GameText
from arena.games.text.generic import GenericText

_VARIANTS = {
    "cached_tree": "none; only the way in which the game is stored differs.",
    "misere": "all returns are negated, so that the player who would win loses.",
    "zerosum": "the mean of all players' returns is subtracted from each return.",
    "add_noise": (
        "each way in which the game can end has its own random number, at most {epsilon:g}, which "
        "is added to or subtracted from the returns; it is the same in every game."
    ),
    "turn_based_simultaneous_game": (
        "the players make their choices in turn, but do not see the choices of the others "
        "before all have chosen."
    ),
}


class WrappedText(GameText):
    """The rules of the game inside, and what is different."""

    games = tuple(_VARIANTS)

    def __init__(self, game: pyspiel.Game) -> None:
        from arena.games.text import find_text  # this package loads this module

        parameters = game.get_parameters()
        inner = parameters["game"]
        name = game.get_type().short_name
        self._inner = find_text(pyspiel.load_game(inner.pop("name"), inner))
        self._generic = GenericText(game)
        # The state has a form of its own, and its history has choices that are still hidden.
        self._in_turn = name == "turn_based_simultaneous_game"
        self.generic = self._inner.generic
        self.case_matters = self._inner.case_matters
        self.ornaments = self._inner.ornaments
        self.rules = f"{self._inner.rules}\nVariant: {_VARIANTS[name].format_map(parameters)}"

    @classmethod
    def describes(cls, game: pyspiel.Game) -> bool:
        return super().describes(game) and isinstance(game.get_parameters().get("game"), dict)

    def aliases(self, text: str) -> tuple[str, ...]:
        return self._inner.aliases(text)

    def aliases_at(self, state: State, action: LegalAction) -> tuple[str, ...]:
        return () if self._in_turn else self._inner.aliases_at(state, action)

    def side(self, seat: int) -> str:
        return self._inner.side(seat)

    def position(self, state: State, seat: int) -> str:
        shown = self._generic if self._in_turn else self._inner
        return shown.position(state, seat)

    def note(self, state: State, seat: int, action: LegalAction) -> str:
        return "" if self._in_turn else self._inner.note(state, seat, action)

    def board(self, state: State) -> str:
        return str(state) if self._in_turn else self._inner.board(state)
