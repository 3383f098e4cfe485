"""Games with hidden cards and dice: a prompt shows all that the seat knows and nothing more."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from arena.agents.base import Turn
from arena.agents.prompt import as_text, build_prompt
from arena.games.game import CHANCE, Game
from tests.support.game_turns import every_turn, playout, reach, turn_after, turn_in

#: Games whose whole tree is small, and which have several players, cards or dice.
SMALL_GAMES = [
    "kuhn_poker",
    "kuhn_poker(players=3)",
    "leduc_poker(suit_isomorphism=true)",
    "leduc_poker(suit_isomorphism=true,starting_player=1)",
    "liars_dice(dice_sides=3)",
    "liars_dice(numdice=2,dice_sides=2)",
    "liars_dice(dice_sides=3,bidding_rule=reset-quantity)",
    "tiny_hanabi",  # uses the generic text
]


def _prompt(turn: Turn) -> str:
    return as_text(build_prompt(turn, "json"))


@pytest.mark.parametrize("spec", SMALL_GAMES)
def test_there_is_one_prompt_for_each_information_state(spec: str) -> None:
    """Over the whole tree, and so over all deals.

    If one information state had two prompts, a prompt would show another player's secret. If
    two states had the same prompt, the prompt would lack something that the seat has seen.
    """
    prompts: dict[tuple[int, str], set[str]] = {}
    states: dict[str, set[tuple[int, str]]] = {}
    for turn in every_turn(Game.load(spec)):
        state = (turn.seat, turn.state.raw.information_state_string(turn.seat))
        prompt = _prompt(turn)
        prompts.setdefault(state, set()).add(prompt)
        states.setdefault(prompt, set()).add(state)
    assert len(prompts) >= 8
    assert {len(prompts_of_state) for prompts_of_state in prompts.values()} == {1}
    assert {len(states_of_prompt) for states_of_prompt in states.values()} == {1}


def test_leduc_with_suits_has_one_prompt_for_each_information_state() -> None:
    """The prompt does not show suits, because both cards of a rank are worth the same."""
    prompts: dict[tuple[int, str], set[str]] = {}
    for turn in every_turn(Game.load("leduc_poker")):
        state = (turn.seat, turn.state.raw.information_state_string(turn.seat))
        prompts.setdefault(state, set()).add(_prompt(turn))
    assert len(prompts) == 936  # the number in OpenSpiel's source
    assert {len(prompts_of_state) for prompts_of_state in prompts.values()} == {1}


def test_kuhn_poker_reads_a_card_number_with_two_digits() -> None:
    turn = turn_after("kuhn_poker(players=10)", range(10, 0, -1))
    assert "Your card: 11\n" in _prompt(turn)


def test_leduc_notes_have_the_chips_that_openspiel_takes() -> None:
    for seed in range(20):
        for turn in playout("leduc_poker(players=3)", seed):
            for action in turn.legal:
                note = turn.game.text.note(turn.state, turn.seat, action)
                cost = int(re.sub(r"\D", "", note) or 0)
                after = turn.state.raw.child(action.action)
                if after.is_terminal():
                    continue  # the money includes the winnings then
                money = [
                    re.search(r"Money: ([-\d ]+)", state.information_state_string(turn.seat))
                    for state in (turn.state.raw, after)
                ]
                before, rest = (int(m[1].split()[turn.seat]) for m in money if m)
                assert before - rest == cost


@pytest.mark.parametrize("spec", ["kuhn_poker(players=3)", "leduc_poker(players=3)", "liars_dice"])
def test_there_is_a_board_from_the_deal_to_the_end(spec: str) -> None:
    game = Game.load(spec)
    assert game.new().board()
    boards = 0
    for turn in itertools.islice(every_turn(game), 300):
        for action in turn.legal:
            history = [move.action for move in turn.state.history]
            boards += bool(reach(game, [*history, action.action]).board())
    assert boards > 300


def test_a_split_pot_with_half_chips_has_a_board() -> None:
    turn = turn_after("leduc_poker(players=3)", [0, 1, 2, 1, 1, 1, 6, 2, 1])
    turn.state.apply({turn.seat: 0})
    assert turn.state.returns() == (0.5, 0.5, -1.0)
    assert turn.state.board().startswith("player 0: 1\nplayer 1: 1\n")


def test_the_generic_text_hides_what_the_seat_has_not_seen() -> None:
    # The other player's mark is on another cell each time, and hidden.
    prompts = {_prompt(turn_after("phantom_ttt", [4, other])) for other in (0, 1, 8)}
    assert len(prompts) == 1
    # Here the seat has tried the other player's cell, so it knows about the mark.
    assert _prompt(turn_after("phantom_ttt", [4, 0, 0])) not in prompts


def test_the_generic_text_shows_everything_that_the_seat_has_seen() -> None:
    turn = turn_after("phantom_ttt", [4, 0, 0])  # the third move tried a hidden mark's cell
    information = turn.state.raw.information_state_string(turn.seat)
    assert information != turn.state.raw.observation_string(turn.seat)
    prompt = _prompt(turn)
    assert "tried so far, oldest first: x(1,1), x(0,0)\n" in prompt
    assert "\n0 o . .\n1 . x .\n2 . . .\n" in prompt


#: Games with hidden cards, dice or moves, whose information states repeat within a few deals.
LARGE_GAMES = [
    "bargaining", "battleship", "blotto", "colored_trails", "coordinated_mp", "dark_hex",
    "first_sealed_auction", "goofspiel(imp_info=true,num_cards=4)", "latent_ttt",
    "leduc_poker(players=3)", "liars_dice(numdice=2)", "phantom_ttt",
    "universal_poker(numSuits=2,numRanks=3)",
]  # fmt: skip


@pytest.mark.parametrize("spec", LARGE_GAMES)
def test_a_prompt_does_not_depend_on_what_is_hidden(spec: str) -> None:
    """Where a seat has seen the same, other cards or moves of the others change nothing."""
    game, repeated = Game.load(spec), 0
    prompts: dict[tuple[int, str], str] = {}
    for seed in range(60):
        state, rng = game.new(), random.Random(seed)  # noqa: S311
        for _ in range(8):
            if state.is_terminal:
                break
            if state.is_chance:
                state.apply({CHANCE: state.draw_chance(rng).action})
                continue
            moves = {}
            for seat in state.players_to_move():
                turn = turn_in(game, state, seat)
                key = (seat, state.raw.information_state_string(seat))
                repeated += key in prompts
                assert prompts.setdefault(key, _prompt(turn)) == _prompt(turn)
                # Few different moves, so that information states repeat.
                moves[seat] = rng.choice(turn.legal[:2]).action
            state.apply(moves)
    assert repeated
