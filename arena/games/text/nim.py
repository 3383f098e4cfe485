"""Nim."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout


class NimText(GameText):
    games = ("nim",)
    playouts: ClassVar = {"nim": Playout(2, 7.7, 314)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = game.get_parameters()
        sizes = parameters["pile_sizes"].split(";")
        result = "loses" if parameters["is_misere"] else "wins"
        self.rules = f"""\
Game: Nim.
Rules: there are {len(sizes)} piles of objects, numbered from 1. They start with \
{", ".join(sizes)} objects. Two players take turns, starting with player 0. On each turn a player \
takes any number of objects, at least one, from a single pile. The player who takes the last \
object of all {result}.
Actions: the pile and how many objects to take from it. "pile:2, take:1;" takes 1 object from \
pile 2.
Returns: 1 for a win, -1 for a loss."""

    def aliases(self, text: str) -> tuple[str, ...]:
        return (text.rstrip(";"),)

    def position(self, state: State, seat: int) -> str:
        return self.board(state)

    def board(self, state: State) -> str:
        sizes = str(state).partition(": ")[2].split()
        piles = (f"pile {number}: {size}" for number, size in enumerate(sizes, 1))
        return f"Objects left: {', '.join(piles)}"
