"""Other forms of a position say the same as the board."""

from __future__ import annotations

import pytest

from arena.agents.prompt import build_prompt
from arena.agents.settings import PromptSettings
from tests.support.game_turns import turn_after

CASES = {
    ("tic_tac_toe", "list", (0, 4, 8)): (
        "The marked cells; all others are free:\no: (1,1)\nx: (0,0), (2,2)"
    ),
    ("tic_tac_toe", "list", ()): "The marked cells; all others are free:\nnone",
    ("connect_four(rows=2,columns=3,x_in_row=3)", "list", (1, 1, 0)): (
        "The discs of each column, from the bottom to the top:\n"
        "column 0: x\ncolumn 1: x, o\ncolumn 2: empty"
    ),
    ("hex(board_size=3)", "list", (0, 5)): ("The stones; all other cells are free:\no: c2\nx: a1"),
    ("breakthrough(rows=4,columns=2)", "list", ()): (
        "The pieces; all other cells are free:\nb: a4, b4\nw: a1, b1"
    ),
    ("chess", "fen", ()): (
        "The position, as FEN: rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1"
    ),
    ("chess", "moves", ()): "Moves so far: none",
}


@pytest.mark.parametrize(("case", "expected"), CASES.items(), ids=str)
def test_forms(case: tuple[str, str, tuple[int, ...]], expected: str) -> None:
    game, form, actions = case
    turn = turn_after(game, actions)
    assert turn.game.text.position_as(form, turn.state, turn.seat) == expected
    settings = PromptSettings(board=form)
    ((_, prompt),) = build_prompt(turn, "json", prompt=settings)
    assert f"{turn.game.text.side(turn.seat)}\n{expected}\n" in prompt


def test_the_grid_of_chess_has_no_fen() -> None:
    turn = turn_after("chess")
    grid = turn.game.text.position_as("grid", turn.state, 1)
    assert "FEN" not in grid
    assert grid.count("\n") == 9
