"""The text of games: compared with golden files, with OpenSpiel's state, and with the rules."""

from __future__ import annotations

import pytest

from arena.games.game import Game
from tests import golden
from tests.support.game_turns import playout, reach, turn_after


@pytest.mark.parametrize("name", [name for name in golden.GOLDEN if name.startswith("games/")])
def test_a_playthrough_is_equal_to_its_golden_file(name: str) -> None:
    golden.compare(name)


def _pieces(board: str) -> dict[str, str]:
    """Cell name, such as "b2", to piece, from a board with row and column names."""
    head, *lines = (line.split() for line in board.splitlines())
    return {
        f"{column}{row}": piece
        for row, *pieces in lines
        for column, piece in zip(head, pieces, strict=True)
        if piece != "."
    }


def _board(position: str) -> str:
    return position.partition("\n")[2]


@pytest.mark.parametrize(
    "spec", ["hex(board_size=2)", "hex(board_size=4)", "hex(num_rows=11,num_cols=26)", "hex"]
)
def test_hex_shows_each_stone_on_the_cell_of_its_action(spec: str) -> None:
    """OpenSpiel marks stones that touch an edge with other letters; the board does not."""
    game = Game.load(spec)
    legal = game.new().legal_actions(0)
    for index, mine in enumerate(legal):
        theirs = legal[index - 1]
        board = _board(game.text.position(reach(game, [mine.action, theirs.action]), 0))
        assert _pieces(board) == {mine.text: "x", theirs.text: "o"}
    for turn in playout(spec, seed=5):
        stones = {move.text: "xo"[move.seat] for move in turn.state.history}
        assert _pieces(_board(turn.game.text.position(turn.state, 0))) == stones


def test_hex_neighbours_are_those_of_the_rules() -> None:
    """The rules say that b1, b2 and a3 are neighbours in this order: they join top and bottom."""
    game = Game.load("hex(board_size=3)")
    state = game.new()
    for name in ("b1", "c1", "b2", "c2", "a3"):
        (seat,) = state.players_to_move()
        state.apply({seat: {a.text: a.action for a in state.legal_actions(seat)}[name]})
    assert state.returns() == (1.0, -1.0)


def test_tic_tac_toe_shows_both_marks_on_the_cells_of_their_actions() -> None:
    for cell in range(9):
        turn = turn_after("tic_tac_toe", [cell, (cell + 4) % 9])
        pieces = _pieces(_board(turn.game.text.position(turn.state, 0)))
        marks = {f"{mark}({cell[1]},{cell[0]})" for cell, mark in pieces.items()}
        assert marks == {move.text for move in turn.state.history}


@pytest.mark.parametrize("spec", ["connect_four", "connect_four(rows=4,columns=12,x_in_row=3)"])
def test_connect_four_stacks_discs_in_the_columns_of_their_actions(spec: str) -> None:
    for turn in playout(spec):
        board = _board(turn.game.text.position(turn.state, turn.seat))
        columns, *rows = (line.split() for line in board.splitlines())
        stacks = {
            column: [row[index] for row in reversed(rows) if row[index] != "."]
            for index, column in enumerate(columns)
        }
        played: dict[str, list[str]] = {column: [] for column in columns}
        for move in turn.state.history:
            played[move.text[1:]].append(move.text[0])
        assert stacks == played


@pytest.mark.parametrize("spec", ["breakthrough", "breakthrough(rows=9,columns=5)"])
def test_breakthrough_moves_pieces_between_the_cells_of_an_action(spec: str) -> None:
    before: dict[str, str] = {}
    for turn in playout(spec, seed=2):
        pieces = _pieces(_board(turn.game.text.position(turn.state, turn.seat)))
        if before:
            played = turn.state.history[-1]
            start, end = played.text[:2], played.text[2:4]
            assert (end in before) == played.text.endswith("*")
            assert before.pop(start) == "bw"[played.seat]
            assert pieces == before | {end: "bw"[played.seat]}
        before = pieces


def test_liars_dice_rules_say_who_wins() -> None:
    """One 2 and one wild 6 count as two 2s, so the bid 2-2 is right and the bid 2-3 is wrong."""
    game = Game.load("liars_dice")
    right, wrong = reach(game, [1, 5, 7, 12]), reach(game, [1, 5, 8, 12])
    assert [move.text for move in right.history[2:]] == ["2-2", "Liar"]
    assert (right.returns(), wrong.returns()) == ((1.0, -1.0), (-1.0, 1.0))
