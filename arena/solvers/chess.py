"""Judges chess with Stockfish, if it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import IO

import pyspiel

from arena.solvers import PAWNS, Judged, SolverMissing

#: Positions that Stockfish searches for one value: the same number gives the same value.
_NODES = 10_000
#: The value of a mate, in pawns; a decided game is not worth more.
_MATE = PAWNS / 2
#: Debian's folder of games is not in everybody's path.
_PLACES = ("stockfish", "/usr/games/stockfish")


class ChessSolver:
    """Compares the played move with Stockfish's choice, both searched equally far.

    The values are estimates, so a regret under the tolerance counts as none.
    """

    unit = "pawns"
    tolerance = 0.3

    def __init__(self, path: str) -> None:
        self._engine = subprocess.Popen(  # noqa: S603 - found in the path
            [path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, bufsize=1,
        )  # fmt: skip
        self._send(
            "uci", "setoption name Threads value 1", "setoption name Hash value 1", "isready"
        )
        self._read_until("readyok")

    def judge(self, state: pyspiel.State, action: int) -> Judged | None:
        board = state.board()
        names = {
            pyspiel.chess.action_to_move(legal, board).to_lan(): legal
            for legal in state.legal_actions()
        }
        played = next(name for name, legal in names.items() if legal == action)
        best, most = self._search(str(state))
        if best not in names:
            return None
        _, value = self._search(str(state), played) if played != best else (best, most)
        regret = max(0.0, most - value)
        if regret <= self.tolerance:
            return Judged(0.0, tuple(dict.fromkeys((names[best], action))))
        return Judged(regret, (names[best],))

    def _search(self, fen: str, only: str = "") -> tuple[str, float]:
        """Return a best move and its value in pawns for the side to move. only: this move."""
        # The memory of earlier searches would make the value depend on what was judged before.
        limited = f" searchmoves {only}" if only else ""
        self._send("ucinewgame", f"position fen {fen}", f"go nodes {_NODES}{limited}")
        value = 0.0
        for line in self._read_until("bestmove"):
            words = line.split()
            if "score" in words:
                kind, number = words[words.index("score") + 1 :][:2]
                mate = _MATE if int(number) > 0 else -_MATE
                value = max(-_MATE, min(_MATE, int(number) / 100)) if kind == "cp" else mate
        return words[1] if words[0] == "bestmove" else "", value

    def _send(self, *lines: str) -> None:
        stream: IO[str] = self._engine.stdin  # type: ignore[assignment]  # it is a pipe
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()

    def _read_until(self, word: str) -> list[str]:
        stream: IO[str] = self._engine.stdout  # type: ignore[assignment]  # it is a pipe
        lines = []
        for line in stream:
            lines.append(line)
            if line.startswith(word):
                return lines
        raise EOFError("Stockfish has ended")


def load(game: pyspiel.Game) -> ChessSolver | None:
    """Return the solver; None for Chess960, whose castling it writes in another way.

    Raises SolverMissing.
    """
    if game.get_parameters().get("chess960"):
        return None
    for place in _PLACES:
        if (path := shutil.which(place)) and Path(path).exists():
            return ChessSolver(path)
    raise SolverMissing(
        "chess: moves are not judged without Stockfish: install it, on Debian with "
        "`apt-get install stockfish`"
    )
