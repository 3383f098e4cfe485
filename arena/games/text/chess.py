"""Chess."""

from __future__ import annotations

import re
from typing import ClassVar

import pyspiel

from arena.games.state import CHANCE, LegalAction, State
from arena.games.text.base import GameText, Playout, draw_grid

_SIDES = (
    "You are player 0. You have the black pieces (lower case).",
    "You are player 1. You have the white pieces (upper case).",
)

_CHESS960 = """
The game starts from a position of Chess960: the pieces on the first rank are shuffled. \
Castling moves king and rook to the cells where they stand after castling in standard chess."""


#: A move that is not castling, without check and mate.
_SAN = re.compile(r"([KQRBN]?)[a-h]?[1-8]?x?([a-h][1-8])((?:=[QRBN])?)")
_PIECES = {"": "pawn", "K": "king", "Q": "queen", "R": "rook", "B": "bishop", "N": "knight"}
_FIGURES = {
    "K": "\u2654\u265a",
    "Q": "\u2655\u265b",
    "R": "\u2656\u265c",
    "B": "\u2657\u265d",
    "N": "\u2658\u265e",
}


class ChessText(GameText):
    games = ("chess",)
    forms = ("fen", "grid", "moves")
    case_matters = True
    ornaments = "+#!"
    playouts: ClassVar = {"chess": Playout(2, 351.9, 1460)}

    def __init__(self, game: pyspiel.Game) -> None:
        self.rules = f"""\
Game: chess.
Rules: the rules of standard chess. Player 1 has the white pieces and moves first; player 0 has \
the black pieces. Checkmate wins. The game is a draw as soon as there is a stalemate, a \
threefold repetition, 50 moves by each side without a capture or a pawn move, or \
too little material for checkmate.{_CHESS960 if game.get_parameters()["chess960"] else ""}
Actions: moves in standard algebraic notation, such as e4, Nf3, exd5, O-O or e8=Q, with + for \
check and # for checkmate.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def aliases(self, text: str) -> tuple[str, ...]:
        plain = text.rstrip(self.ornaments)
        zeros = (plain.replace("O", "0"),) if plain.startswith("O-O") else ()
        return (*zeros, *((plain.replace("=", ""),) if "=" in plain else ()))

    def aliases_at(self, state: State, action: LegalAction) -> tuple[str, ...]:
        """The move with its number, in coordinates, and with other parts of its name."""
        plain = action.text.rstrip(self.ornaments)
        number = sum(played.seat != CHANCE for played in state.history) // 2 + 1
        names = [f"{number}.{plain}", f"{number}...{plain}"]
        found = _SAN.fullmatch(plain)
        if found is None:
            return tuple(names)
        piece, goal, promoted = found.groups()
        move = pyspiel.chess.action_to_move(action.action, state.raw.board())
        start, ways = move.to_lan()[:2], ("", "-", "x")
        origins = ("", *start, start) if piece else (start,)
        names += [f"{piece}{origin}{way}{goal}{promoted}" for origin in origins for way in ways]
        names += [f"{start}{way}{goal}{promoted}" for way in ways]
        names += [f"{start}{goal}{promoted[1:].lower()}", f"P{goal}"] if not piece else []
        names += [f"{figure}{plain[1:]}" for figure in _FIGURES.get(piece, "")]
        for word in (_PIECES[piece], _PIECES[piece].capitalize()):
            names += [f"{word}{way}{goal}{promoted}" for way in ("", "to", "takes")]
        return tuple(names)

    def side(self, seat: int) -> str:
        return _SIDES[seat]

    def position(self, state: State, seat: int) -> str:
        return f"{self._moves(state)}\nThe position:\n{self.board(state)}"

    def position_as(self, form: str, state: State, seat: int) -> str:
        match form:
            case "fen":
                return f"The position, as FEN: {state}"
            case "grid":
                return f"The position:\n{self.board(state).rpartition('FEN:')[0].rstrip()}"
        return self._moves(state)

    def _moves(self, state: State) -> str:
        played = [move.text for move in state.history if move.seat != CHANCE]
        pairs = (" ".join(played[ply : ply + 2]) for ply in range(0, len(played), 2))
        score = " ".join(f"{number}. {pair}" for number, pair in enumerate(pairs, 1))
        return f"Moves so far: {score or 'none'}"

    def board(self, state: State) -> str:
        fen = str(state)
        ranks = fen.partition(" ")[0].split("/")
        rows = [(str(8 - index), _expand(rank)) for index, rank in enumerate(ranks)]
        return f"{draw_grid(rows, 'abcdefgh')}\nFEN: {fen}"


def _expand(rank: str) -> str:
    """Return a rank of a FEN with a dot for each free cell."""
    return "".join("." * int(sign) if sign.isdigit() else sign for sign in rank)
