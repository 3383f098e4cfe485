"""A disguise has the original's tree and none of its words."""

from __future__ import annotations

import random
import re
from itertools import product

import pyspiel
import pytest

from arena.agents.prompt import build_prompt
from arena.games.disguise import NUMBERINGS, ORIGINALS
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


#: What the originals' names of actions look like, if it is more than a word.
NOTATION = {
    "connect_four": r"[A-Ga-g]",
    "hex": r"[A-Ka-k]",
    "breakthrough": r"[a-h]\d|\*",
    "chess": r"[a-h]\d|[x+=#]|S-S",
}
#: Of these games, names are not in the order of the alphabet; their columns are other letters.
MAPS = ("arena_couriers", "arena_court")


def compare(name: str, one: pyspiel.State, two: pyspiel.State) -> None:
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
        numbers = [NUMBERINGS[name].to_disguised(action) for action in one.legal_actions(seat)]
        assert sorted(numbers) == two.legal_actions(seat)
        names = [two.action_to_string(seat, action) for action in two.legal_actions(seat)]
        assert len({*names}) == len(names)


def test_there_is_one_for_each_game_with_rules_of_its_own() -> None:
    assert {*ORIGINALS.values()} == WORDS.keys()


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_trees_are_equal(name: str) -> None:
    one, two = pyspiel.load_game(ORIGINALS[name]), pyspiel.load_game(name)
    number = NUMBERINGS[name]
    assert (one.min_utility(), one.max_utility()) == (two.min_utility(), two.max_utility())

    def walk(first: pyspiel.State, second: pyspiel.State) -> int:
        compare(name, first, second)
        if first.is_terminal():
            return 1
        if first.is_simultaneous_node():
            found = 1
            for joint in product(first.legal_actions(0), first.legal_actions(1)):
                children = first.clone(), second.clone()
                children[0].apply_actions(list(joint))
                children[1].apply_actions([number.to_disguised(action) for action in joint])
                found += walk(*children)
            return found
        disguised = (lambda action: action) if first.is_chance_node() else number.to_disguised
        return 1 + sum(
            walk(first.child(a), second.child(disguised(a))) for a in first.legal_actions()
        )

    if name in SMALL:
        assert walk(one.new_initial_state(), two.new_initial_state()) >= 5
        return
    rng = random.Random(name)  # noqa: S311 - repeatable
    positions = 0
    while positions < 400:
        states = one.new_initial_state(), two.new_initial_state()
        for _ in range(120):
            compare(name, *states)
            positions += 1
            if states[0].is_terminal():
                break
            action, chance = rng.choice(states[0].legal_actions()), states[0].is_chance_node()
            states[0].apply_action(action)
            states[1].apply_action(action if chance else number.to_disguised(action))


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


def natural(text: str) -> list[tuple[int, str]]:
    """The key of a natural order: numbers by their value, then letters."""
    return [(int(digits or 1000), rest) for digits, rest in re.findall(r"(\d*)(\D*)", text)[:-1]]


@pytest.mark.parametrize("name", ORIGINALS)
def test_names_and_order_of_the_actions_do_not_give_the_original_away(name: str) -> None:
    """No action keeps its square or its notation, and lists have the order of their own names."""
    notation = re.compile(NOTATION.get(ORIGINALS[name], r"[-(),]"))
    for turn in playout(name, 1, most=20):
        names = [action.text for action in turn.legal]
        assert name in MAPS or names == sorted(names, key=natural)
        assert not any(map(notation.search, names))


def test_a_disguise_is_a_game_like_any_other() -> None:
    game = Game.load("arena_fifteen")
    assert (game.spec, game.players, game.text.generic) == ("arena_fifteen", 2, False)
    state = game.new()
    for action in (4, 1, 5):  # the numbers 5, 2, 6
        state.apply({state.players_to_move()[0]: action})
    assert state.board() == (
        "Numbers of player 0: 5, 6\nNumbers of player 1: 2\nStill on the table: 1, 3, 4, 7, 8, 9"
    )
    state.apply({1: 6})
    state.apply({0: 3})  # 4: 6, 5 and 4 are a diagonal of the original
    assert state.returns() == (1.0, -1.0)
