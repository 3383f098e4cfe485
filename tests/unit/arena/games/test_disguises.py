"""A disguise has the original's tree and none of its words."""

from __future__ import annotations

import random
import re
from itertools import product

import pyspiel
import pytest

from arena.agents.prompt import build_prompt
from arena.games.disguise import ORIGINALS
from arena.games.game import Game
from tests.support.game_turns import playout

#: Trees that are compared completely; of the others, random games are.
SMALL = ("arena_seals", "arena_lamps", "arena_shops", "arena_weather")

#: Words of the originals that would give them away.
WORDS = {
    "tic_tac_toe": r"tic|mark|\ba line|diagonal|[xo]\(",
    "connect_four": r"connect|disc|column|drop|\b[xo]\d",
    "kuhn_poker": r"poker|kuhn|card|bet|fold|call|check|pot|chip|jack|queen|king",
    "leduc_poker": r"poker|leduc|card|bet|fold|call|raise|pot|chip|jack|queen|king|check",
    "liars_dice": r"dice|die\b|liar|bid|face|roll",
    "hex": r"hex|stone|swap|\bcell",
    "breakthrough": r"breakthrough|piece|capture|\bcell|pawn",
    "chess": r"chess|king|queen|rook|bishop|knight|pawn|castl|check|mate|fen\b",
    "matrix_mp": r"penn|heads|tails",
    "matrix_pd": r"prisoner|dilemma|cooperat|defect",
    "matrix_rps": r"rock|paper|scissors",
}


def compare(one: pyspiel.State, two: pyspiel.State) -> None:
    """Assert that a position of the original and one of its disguise are the same."""
    assert one.is_terminal() == two.is_terminal()
    assert one.current_player() == two.current_player()
    assert one.returns() == two.returns()
    if one.is_terminal():
        return
    if one.is_chance_node():
        assert one.chance_outcomes() == two.chance_outcomes()
        return
    seats = range(2) if one.is_simultaneous_node() else [one.current_player()]
    for seat in seats:
        assert one.legal_actions(seat) == two.legal_actions(seat)
        names = [two.action_to_string(seat, action) for action in two.legal_actions(seat)]
        assert len({*names}) == len(names)


def test_there_is_one_for_each_game_with_rules_of_its_own() -> None:
    assert {*ORIGINALS.values()} == WORDS.keys()


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_trees_are_equal(name: str) -> None:
    one, two = pyspiel.load_game(ORIGINALS[name]), pyspiel.load_game(name)
    assert (one.min_utility(), one.max_utility()) == (two.min_utility(), two.max_utility())

    def walk(first: pyspiel.State, second: pyspiel.State) -> int:
        compare(first, second)
        if first.is_terminal():
            return 1
        if first.is_simultaneous_node():
            found = 1
            for joint in product(first.legal_actions(0), first.legal_actions(1)):
                children = first.clone(), second.clone()
                for child in children:
                    child.apply_actions(list(joint))
                found += walk(*children)
            return found
        return 1 + sum(walk(first.child(a), second.child(a)) for a in first.legal_actions())

    if name in SMALL:
        assert walk(one.new_initial_state(), two.new_initial_state()) >= 5
        return
    rng = random.Random(name)  # noqa: S311 - repeatable
    positions = 0
    while positions < 400:
        states = one.new_initial_state(), two.new_initial_state()
        for _ in range(120):
            compare(*states)
            positions += 1
            if states[0].is_terminal():
                break
            action = rng.choice(states[0].legal_actions())
            for state in states:
                state.apply_action(action)


@pytest.mark.parametrize("name", ORIGINALS)
def test_no_prompt_has_a_word_of_the_original(name: str) -> None:
    secret = re.compile(WORDS[ORIGINALS[name]], re.IGNORECASE)
    for seed in range(3):
        for turn in playout(name, seed, most=30):
            ((_, prompt),) = build_prompt(turn, "choices")
            own = prompt.partition("\nReply with one")[0] + prompt.partition("nothing else.")[2]
            assert not secret.search(own), prompt
            for action in turn.legal:
                assert f"\n{action.text}" in prompt


def test_a_disguise_is_a_game_like_any_other() -> None:
    game = Game.load("arena_fifteen")
    assert (game.spec, game.players, game.text.generic) == ("arena_fifteen", 2, False)
    state = game.new()
    for action in (4, 0, 2):  # 5, 2, 6
        state.apply({state.players_to_move()[0]: action})
    assert state.board() == (
        "Numbers of player 0: 5, 6\nNumbers of player 1: 2\nStill on the table: 1, 3, 4, 7, 8, 9"
    )
    state.apply({1: 1})
    state.apply({0: 6})  # 4: the diagonal 6, 5, 4
    assert state.returns() == (1.0, -1.0)
