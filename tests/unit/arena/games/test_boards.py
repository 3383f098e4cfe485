"""The boards of the games without secrets: every cell, every action."""

from __future__ import annotations

import pytest

from arena.games.game import Game
from tests.support.turns import playout, reach, turn_after


def _cells(board: str) -> dict[tuple[str, str], str]:
    """Row's and column's name to what stands there, of a table with names on two sides."""
    head, *lines = (line.split() for line in board.splitlines())
    return {
        (row, column): cell for row, *line in lines for column, cell in zip(head, line, strict=True)
    }


def _position(spec: str, actions: list[int], seat: int) -> str:
    game = Game.load(spec)
    return game.family.position(reach(game, actions), seat)


@pytest.mark.parametrize("cell", range(9))
def test_tic_tac_toe_shows_both_marks_where_their_actions_put_them(cell: int) -> None:
    other = (cell + 4) % 9
    turn = turn_after("tic_tac_toe", [cell, other])
    board = turn.game.family.position(turn.state, 0).partition("\n")[2]
    marks = {
        f"{mark}({row},{column})" for (row, column), mark in _cells(board).items() if mark != "."
    }
    assert marks == {move.text for move in turn.state.history}


@pytest.mark.parametrize("spec", ["connect_four", "connect_four(rows=4,columns=12,x_in_row=3)"])
def test_connect_four_stacks_discs_in_the_columns_of_their_actions(spec: str) -> None:
    for turn in playout(spec):
        board = turn.game.family.position(turn.state, turn.seat).partition("\n")[2]
        columns, *rows = (line.split() for line in board.splitlines())
        stacks = {
            column: [row[index] for row in reversed(rows) if row[index] != "."]
            for index, column in enumerate(columns)
        }
        played: dict[str, list[str]] = {column: [] for column in columns}
        for move in turn.state.history:
            played[move.text[1:]].append(move.text[0])
        assert stacks == played


HEX = ["hex(board_size=2)", "hex(board_size=3)", "hex(num_rows=11,num_cols=26)", "hex"]


@pytest.mark.parametrize("spec", HEX)
def test_hex_shows_both_players_stones_on_every_cell(spec: str) -> None:
    game = Game.load(spec)
    legal = game.new().legal_actions(0)
    for index, mine in enumerate(legal):
        theirs = legal[index - 1]
        position = game.family.position(reach(game, [mine.action, theirs.action]), 0)
        stones = {
            f"{column}{row}": cell
            for (row, column), cell in _cells(position.partition("\n")[2]).items()
            if cell != "."
        }
        assert stones == {mine.text: "x", theirs.text: "o"}


def test_hex_tells_stones_that_touch_their_edges_like_all_others() -> None:
    for turn in playout("hex(board_size=4)", seed=5):
        board = turn.game.family.position(turn.state, 0).partition("\n")[2]
        stones = {f"{c}{r}": cell for (r, c), cell in _cells(board).items() if cell != "."}
        assert stones == {move.text: "xo"[move.seat] for move in turn.state.history}


def test_hex_draws_each_row_half_a_cell_further_right() -> None:
    lines = _position("hex(board_size=12)", [], 0).splitlines()[1:]
    assert [len(line) - len(line.lstrip()) for line in lines[1:]] == [
        *range(1, 10), *range(9, 12)
    ]  # fmt: skip
    assert [line.index(".") - index for index, line in enumerate(lines[1:])] == [3] * 12


def test_hex_neighbours_are_those_of_the_rules() -> None:
    # b1, b2, a3 touch in turn, as the rules say of b2: that connects top and bottom.
    texts = ["b1", "c1", "b2", "c2", "a3"]
    game = Game.load("hex(board_size=3)")
    state = game.new()
    for text in texts:
        (seat,) = state.players_to_move()
        state.apply({seat: {a.text: a.action for a in state.legal_actions(seat)}[text]})
    assert state.returns() == (1.0, -1.0)


def test_hex_swap_is_told_and_done_as_told() -> None:
    turn = turn_after("hex(board_size=3,swap=true)", [1])
    assert "swap" in [action.text for action in turn.legal]
    assert "row and column exchanged" in turn.game.family.rules
    assert "swap" not in Game.load("hex(board_size=3)").family.rules
    swapped = _position("hex(board_size=3,swap=true)", [1, 9], 0).partition("\n")[2]
    assert {key for key, cell in _cells(swapped).items() if cell == "o"} == {("2", "a")}


@pytest.mark.parametrize("spec", ["breakthrough", "breakthrough(rows=9,columns=5)"])
def test_breakthrough_shows_pieces_where_actions_leave_and_put_them(spec: str) -> None:
    def stones(turn_board: str) -> dict[str, str]:
        return {f"{c}{r}": cell for (r, c), cell in _cells(turn_board).items()}

    before: dict[str, str] = {}
    for turn in playout(spec, seed=2):
        board = stones(turn.game.family.position(turn.state, turn.seat).partition("\n")[2])
        if before:
            played = turn.state.history[-1]
            left, taken = played.text[:2], played.text[2:4]
            assert before[left] == "bw"[played.seat]
            assert (before[taken] != ".") == played.text.endswith("*")
            assert board == before | {left: ".", taken: "bw"[played.seat]}
        before = board


def test_chess_tells_position_score_and_side() -> None:
    turn = turn_after("chess")
    assert turn.game.family.side(turn.seat).startswith("You are player 1 and have the white")
    assert "Moves so far: none\n" in turn.game.family.position(turn.state, 1)
    for text in ("e4", "e5", "Nf3"):
        (seat,) = turn.state.players_to_move()
        names = {action.text: action.action for action in turn.state.legal_actions(seat)}
        turn.state.apply({seat: names[text]})
    position = turn.game.family.position(turn.state, 0)
    assert "Moves so far: 1. e4 e5 2. Nf3\n" in position
    assert "FEN: rnbqkbnr/pppp1ppp/8/4p3/4P3/5N2/PPPP1PPP/RNBQKB1R b KQkq - 1 2" in position
    cells = _cells("\n".join(position.splitlines()[2:-1]))
    assert {cells["3", "f"], cells["4", "e"], cells["8", "d"], cells["1", "d"]} == {
        "N",
        "P",
        "q",
        "Q",
    }
    assert (cells["5", "e"], cells["2", "e"]) == ("p", ".")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("connect_four(rows=4,columns=5,x_in_row=3)", ["4 rows and 5 columns", "3 discs of", "o4"]),
        ("hex(num_rows=4,num_cols=6)", ["4 rows and 6 columns", "row (4)", "column (f)", "f4"]),
        ("breakthrough(rows=6,columns=5)", ["6 rows", "5 columns", "row 6 for w", "a6a5"]),
        ("kuhn_poker(players=3)", ["3 players", "4 cards: 1, 2, 3, 4"]),
        ("leduc_poker(players=3,starting_player=2)", ["3 players", "3, 4", "Player 2 begins"]),
        ("leduc_poker(action_mapping=true)", ["Fold where nothing is owed counts as Call"]),
        ("liars_dice(numdice=3,dice_sides=4)", ["3 dice", "1 to 4", "6 dice", "Face 4 is wild"]),
        ("liars_dice(bidding_rule=reset-quantity)", ["any quantity of a higher face", "1 die"]),
        ("chess(chess960=true)", ["Chess960"]),
        ("matching_pennies", ["Heads, player 1: Heads -> player 0 gets 1, player 1 gets -1"]),
        ("matrix_pd", ["Defect, player 1: Cooperate -> player 0 gets 10, player 1 gets 0"]),
        ("matrix_rps", ["Paper, player 1: Rock -> player 0 gets 1, player 1 gets -1", "once"]),
        ("repeated_game(stage_game=matrix_pd(),num_repetitions=4)", ["4 rounds", "gets 10"]),
        ("go(board_size=9)", ["go(board_size=9)", "from -1 to 1"]),
    ],
)  # fmt: skip
def test_the_rules_are_those_of_the_games_parameters(spec: str, words: list[str]) -> None:
    rules = Game.load(spec).family.rules
    assert [word for word in words if word not in rules] == []


def test_a_repeated_game_tells_the_rounds_so_far_to_both() -> None:
    game = Game.load("repeated_game(stage_game=matrix_pd(),num_repetitions=3)")
    state = game.new()
    state.apply({0: 0, 1: 1})
    told = "Round 1: player 0: Cooperate, player 1: Defect\nNow: round 2 of 3"
    assert [game.family.position(state, seat) for seat in (0, 1)] == [told, told]
