"""Each of OpenSpiel's games has a prompt, or is refused."""

from __future__ import annotations

import pyspiel
import pytest

from arena.agents.prompt import as_text, build_prompt
from arena.games.game import Game, GameError
from tests.support.game_turns import playout, turn_after

NEED_PARAMETERS = {
    "add_noise", "cached_tree", "efg_game", "misere", "nfg_game", "normal_form_extensive_game",
    "repeated_game", "repeated_poker", "restricted_nash_response", "start_at",
    "turn_based_simultaneous_game", "zerosum",
}  # fmt: skip
DRAW_THEIR_OWN_CHANCE = {"bridge_uncontested_bidding", "negotiation", "stones_and_gems", "tarok"}
HAVE_NO_SEATS = {
    "mfg_crowd_modelling", "mfg_crowd_modelling_2d", "mfg_dynamic_routing", "mfg_garnet",
}  # fmt: skip
HAVE_NO_NUMBERS_FOR_ACTIONS = {"crossword"}
REFUSED = NEED_PARAMETERS | DRAW_THEIR_OWN_CHANCE | HAVE_NO_SEATS | HAVE_NO_NUMBERS_FOR_ACTIONS

NAMES = pyspiel.registered_names()


@pytest.mark.parametrize("name", sorted({*NAMES} - REFUSED))
def test_a_prompt_has_the_side_and_every_legal_action(name: str) -> None:
    turns = 0
    for turn in playout(name, seed=1, most=25):
        turns += 1
        prompt = as_text(build_prompt(turn, "choices"))
        text = turn.game.text
        assert prompt.startswith(text.rules)
        listed = prompt.rpartition("\nLegal actions: ")[2]
        assert [action.text for action in turn.legal if action.text not in listed] == []
        assert f"layer {turn.seat}" in text.side(turn.seat)
        assert turn.state.board() is not None  # some are empty at the start
    assert turns


@pytest.mark.parametrize("name", sorted(REFUSED & {*NAMES}))
def test_all_other_games_are_refused(name: str) -> None:
    with pytest.raises(GameError, match=f"game {name}: "):
        Game.load(name)


def test_simultaneous_moves_that_are_made_in_turn_stay_hidden() -> None:
    spec = "turn_based_simultaneous_game(game=goofspiel(num_cards=3))"
    turns = [turn_after(spec, [0, bid]) for bid in range(3)]  # a chance event reveals a card first
    assert {turn.seat for turn in turns} == {1}
    assert len({as_text(build_prompt(turn, "json")) for turn in turns}) == 1
