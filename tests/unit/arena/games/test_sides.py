"""What a prompt says about the player's pieces, compared with what the engine does with them.

After a move, every cell of the board that has changed and is not free must hold a piece of the
player who moved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest

from arena.games.game import Game, State
from arena.games.text.matrix_game import MatrixGameText
from tests.support.game_turns import playout

#: A board as the prompt shows it, and the two players' signs on it.
OURS = {
    "tic_tac_toe": ("x", "o"),
    "connect_four": ("x", "o"),
    "hex(board_size=5)": ("x", "o"),
    "y(board_size=6)": ("x", "o"),
    "breakthrough": ("b", "w"),
    "checkers": ("o8", "+*"),
    "othello": ("x", "o"),
    "go(board_size=5)": ("B", "W"),
    "gomoku(size=6)": ("x", "o"),
    "mnk(m=6,n=5)": ("x", "o"),
    "chess": ("rnbqkp", "RNBQKP"),
    "misere(game=tic_tac_toe())": ("x", "o"),
}
#: Boards that the generic text shows as OpenSpiel draws them.
GENERIC = {
    "amazons": ("X#", "O#"),
    "capture_the_flag": ("A", "B"),
    "chinese_checkers": ("1", "2"),
    "clobber": ("o", "x"),
    "cursor_go(board_size=5)": ("X", "O"),
    "havannah(board_size=4)": ("O", "@"),
    "laser_tag": ("A", "B"),
    "lines_of_action": ("x", "o"),
    "nine_mens_morris": ("W", "B"),
    "quoridor": ("0", "@"),
    "snake": ("0", "1"),
    "twixt": ("x", "o"),
    "ultimate_tic_tac_toe": ("x", "o"),
    "xiangqi": ("RHEAGCS", "rheagcs"),
}


def _check(
    spec: str, signs: Sequence[str], seed: int, board: Callable[[State], str], other_signs: str
) -> int:
    """The number of moves that changed pieces, all of which were the mover's own."""
    seen, before, mover = 0, "", -1
    for turn in playout(spec, seed, most=150):
        after = board(turn.state)
        if len(before) == len(after):
            pairs = zip(before, after, strict=True)
            changed = {now for then, now in pairs if then != now and now in other_signs}
            assert changed <= set(signs[mover]), (turn.state.history[-1], changed)
            seen += bool(changed)
        before, mover = after, turn.seat
    return seen


def _grid(turn_board: str) -> str:
    """The cells of a board with row and column names."""
    _, *lines = turn_board.splitlines()
    return "\n".join(" ".join(line.split()[1:]) for line in lines if "FEN" not in line)


@pytest.mark.parametrize("spec", OURS)
def test_the_pieces_of_our_own_texts_are_the_players(spec: str) -> None:
    signs, game = OURS[spec], Game.load(spec)
    both = "".join(signs)
    seen = [_check(spec, signs, seed, lambda s: _grid(game.text.board(s)), both) for seed in (1, 2)]
    assert min(seen) > 2
    for seat, own in enumerate(signs):
        side = game.text.side(seat)
        assert any(sign in re.split(r"[\s.;,]+", side) for sign in own) or spec == "chess"


@pytest.mark.parametrize("spec", GENERIC)
def test_the_pieces_of_generic_texts_are_the_players(spec: str) -> None:
    signs, game = GENERIC[spec], Game.load(spec)
    both = "".join(signs)

    def board(state: State) -> str:
        shown = game.text.position(state, 0).partition("The position as you see it:\n")[2]
        return "\n".join(line for line in shown.splitlines() if ":" not in line)

    if game.simultaneous:
        # Both move at the same time, so that only the names of the players can be compared.
        start = board(next(playout(spec)).state)
        assert all(sign in start for sign in both)
    else:
        assert sum(_check(spec, signs, seed, board, both) for seed in (1, 2)) > 1
    for seat, own in enumerate(signs):
        words = re.split(r"[\s.;,]+", game.text.side(seat))
        assert any(sign in words for sign in own) or spec == "xiangqi"


@pytest.mark.parametrize(
    ("spec", "first"),
    [
        ("antichess", 1), ("crazyhouse", 1), ("dark_chess", 1), ("kriegspiel", 1), ("rbc", 1),
        ("chess", 1), ("shogi", 0), ("go(board_size=5)", 0), ("hive", 0),
    ],
)  # fmt: skip
def test_who_moves_first_and_has_which_color(spec: str, first: int) -> None:
    """In these games the color decides who moves first."""
    turn = next(playout(spec))
    assert turn.seat == first
    side = turn.game.text.side(first)
    assert ("white" if first == 1 else "Black" if spec != "hive" else "White") in side


def test_markov_soccer_writes_the_player_with_the_ball_as_a_capital_letter() -> None:
    """While the ball is on the board nobody has it; later one player does."""
    seen = set()
    for seed in range(4):
        for turn in playout("markov_soccer", seed, most=40):
            board = turn.state.raw.observation_string(0)
            assert sum(sign in board for sign in "AB") == ("O" not in board)
            seen.add("O" in board)
    assert seen == {True, False}


def test_maedn_calls_the_player_by_the_number_of_their_pieces() -> None:
    for turn in playout("maedn", seed=1, most=30):
        assert f"Turn: {turn.seat + 1}" in turn.game.text.position(turn.state, turn.seat)
        assert f"Your pieces are {turn.seat + 1};" in turn.game.text.side(turn.seat)


@pytest.mark.parametrize("spec", ["backgammon", "backgammon(hyper_backgammon=true)"])
def test_backgammon_points_are_those_of_the_actions(spec: str) -> None:
    """Each action leaves a point on which the prompt shows a checker of the player."""
    for turn in playout(spec, seed=3, most=80):
        own = turn.game.text.position(turn.state, turn.seat).split("Your checkers")[1]
        own = own.partition("\n")[0]
        points = set(re.findall(r"point (\d+):", own))
        bar = "on the bar: 0" not in own
        for action in turn.legal:
            first = re.split(r"[ /(]", action.text.rpartition(" - ")[2])[0]
            assert first in points or (first == "Bar" and bar) or first == "Pass", action


@pytest.mark.parametrize("spec", ["mancala"])
def test_mancala_pits_have_the_beans_that_an_action_takes(spec: str) -> None:
    for turn in playout(spec, seed=4):
        position = turn.game.text.position(turn.state, turn.seat)
        beans = {pit: int(n) for pit, n in re.findall(r"(?:pit|store) (\d+): (\d+)", position)}
        assert sum(beans.values()) == 48
        own = re.findall(r"\d+", turn.game.text.side(turn.seat).partition("pits are")[2])
        for action in turn.legal:
            assert beans[action.text] > 0
            assert int(own[0]) <= int(action.text) <= int(own[1])


@pytest.mark.parametrize("spec", ["dots_and_boxes", "dots_and_boxes(num_rows=3,num_cols=4)"])
def test_dots_and_boxes_shows_each_line_where_its_action_is(spec: str) -> None:
    for turn in playout(spec, seed=5):
        lines = turn.game.text.board(turn.state).splitlines()[1:]
        for played in turn.state.history:
            match = re.fullmatch(r"P(\d)\((.),(\d+),(\d+)\)", played.text)
            assert match
            assert int(match[1]) == played.seat + 1
            row, column = int(match[3]), int(match[4])
            place = (
                (2 * row, 2 + 4 * column + 1) if match[2] == "h" else (2 * row + 1, 2 + 4 * column)
            )
            assert lines[place[0]][place[1]] == ("-" if match[2] == "h" else "|")
        drawn = sum(line.count("---") for line in lines) + sum(line.count("|") for line in lines)
        assert drawn == len(turn.state.history)
        # OpenSpiel marks boxes with 1 and 2, and the prompt with the players' numbers.
        theirs = [str(int(sign) - 1) for sign in re.findall(r"\d", str(turn.state))]
        ours = [sign for line in lines for sign in re.findall(r"\d", line[2:])]
        assert ours == theirs


@pytest.mark.parametrize(
    "spec", ["goofspiel(num_cards=5)", "goofspiel(imp_info=true,num_cards=5)",
             "goofspiel(players=3,num_cards=4,points_order=ascending)"]
)  # fmt: skip
def test_goofspiel_shows_the_cards_and_points_of_the_engine(spec: str) -> None:
    for turn in playout(spec, seed=6):
        position = turn.game.text.position(turn.state, turn.seat)
        hand = re.search(r"Your cards: ([\d ]+)", position)
        assert hand
        assert hand[1].split() == [a.text.rpartition(" ")[2] for a in turn.legal]
        points = re.findall(r"player \d+: (\d+)", position.rpartition("Points so far")[2])
        view = turn.state.raw.observation_string(turn.seat)
        engine = re.search(r"Points: ([\d ]+)", view)
        assert engine
        assert engine[1].split() == points
        own = [p.text.rpartition(" ")[2] for p in turn.state.history if p.seat == turn.seat]
        assert re.findall(rf"player {turn.seat} bid (\d+)", position) == own
        others = re.findall(r"player (\d) bid", position)
        assert ("imp_info" in spec) <= (set(others) <= {str(turn.seat)})


def test_payoffs_are_those_of_the_engine() -> None:
    for spec in ("matching_pennies_3p", "zerosum(game=matrix_pd())", "misere(game=matrix_rps())"):
        text = Game.load(spec).text
        rules = text.rules
        assert isinstance(text, MatrixGameText) or "Variant" in rules
    rules = Game.load("zerosum(game=matrix_pd())").text.rules
    assert "player 0: Cooperate, player 1: Defect -> player 0 gets -5, player 1 gets 5" in rules
    assert Game.load("matching_pennies_3p").text.rules.count(" -> ") == 8
    assert not Game.load("blotto").text.generic


@pytest.mark.parametrize(
    "spec",
    [
        "universal_poker",
        "universal_poker(betting=nolimit,stack=900 600,blind=50 100,firstPlayer=2 1)",
        "universal_poker(betting=limit,blind=5 10,firstPlayer=2 1,raiseSize=10 20,maxRaises=2 2)",
        "leduc_poker",
        "kuhn_poker",
    ],
)
def test_the_chips_of_a_prompt_are_those_that_the_engine_pays(spec: str) -> None:
    """A call adds to the pot what its note says, and who folds loses what they have put in."""
    calls = folds = 0
    for seed in range(30):
        pot, notes = 0.0, {}
        for turn in playout(spec, seed):
            text, state, seat = turn.game.text, turn.state, turn.seat
            position = text.position(state, seat)
            if put := re.search(r"put in: player 0: (\d+), player 1: (\d+)", position):
                now = float(put[1]) + float(put[2])
            else:
                (found,) = re.findall(r"Pot: (\d+) chip", position)
                now = float(found)
            last = state.history[-1].text if notes else ""
            note = re.fullmatch(r"puts in (\d+) chips?|check|(Call)", notes.get(last, ""))
            if note:
                calls += 1
                assert now - pot == float(note[1] or 0) + (note[2] == "Call"), (spec, position)
            fold = [a for a in turn.legal if "Fold" in (a.text[-4:], text.note(state, seat, a))]
            for action in fold:
                folds += 1
                # The other player wins the pot, in which they have the rest of it.
                paid = state.raw.child(action.action).returns()
                assert paid[1 - seat] == -paid[seat]
                if put:
                    assert paid[seat] == -int(put[1 + seat])
                if left := re.search(r"Chips left: player 0: (\d+), player 1: (\d+)", position):
                    stack = 900 - 300 * seat if "900" in spec else 1200
                    assert paid[seat] == int(left[1 + seat]) - stack
            pot, notes = now, {a.text: text.note(state, seat, a) for a in turn.legal}
    assert folds > 5
    assert calls > 5 or spec == "kuhn_poker"
