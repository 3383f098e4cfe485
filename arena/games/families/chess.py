"""Chess."""

from __future__ import annotations

import pyspiel

from arena.games.families.family import Family, grid
from arena.games.state import CHANCE, State

_SIDES = (
    "You are player 0 and have the black pieces (lower case).",
    "You are player 1 and have the white pieces (upper case).",
)

_CHESS960 = """
The start is one of Chess960: the pieces of the first rank are shuffled. Castling takes king \
and rook to the cells where they stand after castling in standard chess."""


class Chess(Family):
    def __init__(self, game: pyspiel.Game) -> None:
        self.rules = f"""\
Game: chess.
Rules: those of standard chess. Player 1 has the white pieces and moves first, player 0 has \
the black ones. Checkmate wins. Stalemate, the third time that a position stands on the \
board, 50 moves of each side without a capture or a pawn's move, and too few pieces left to \
mate are draws at once.{_CHESS960 if game.get_parameters()["chess960"] else ""}
Actions: moves in standard algebraic notation, such as e4, Nf3, exd5, O-O, e8=Q, with + for \
check and # for checkmate.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def side(self, seat: int) -> str:
        return _SIDES[seat]

    def position(self, state: State, seat: int) -> str:
        played = [move.text for move in state.history if move.seat != CHANCE]
        pairs = (" ".join(played[ply : ply + 2]) for ply in range(0, len(played), 2))
        score = " ".join(f"{number}. {pair}" for number, pair in enumerate(pairs, 1))
        return f"Moves so far: {score or 'none'}\nThe position:\n{self.board(state)}"

    def board(self, state: State) -> str:
        fen = str(state)
        ranks = fen.partition(" ")[0].split("/")
        rows = [(str(8 - index), _cells(rank)) for index, rank in enumerate(ranks)]
        return f"{grid(rows, 'abcdefgh')}\nFEN: {fen}"


def _cells(rank: str) -> str:
    return "".join("." * int(sign) if sign.isdigit() else sign for sign in rank)
