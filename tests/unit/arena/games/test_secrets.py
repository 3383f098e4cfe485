"""Games with hidden cards and dice: a seat is told all it knows, and nothing else."""

from __future__ import annotations

import itertools
import re

import pytest

from arena.agents.base import Turn
from arena.agents.prompt import as_text, prompt_of
from arena.games.game import Game
from tests.support.turns import every_turn, playout, reach, turn_after

#: Small enough for the whole tree, large enough for several players, cards and dice.
WHOLE = [
    "kuhn_poker",
    "kuhn_poker(players=3)",
    "leduc_poker(suit_isomorphism=true)",
    "leduc_poker(suit_isomorphism=true,starting_player=1)",
    "liars_dice(dice_sides=3)",
    "liars_dice(numdice=2,dice_sides=2)",
    "liars_dice(dice_sides=3,bidding_rule=reset-quantity)",
    "tiny_hanabi",  # told generically
]

_RANKS = ("Jack", "Queen", "King")


def _told(turn: Turn) -> str:
    return as_text(prompt_of(turn, "json"))


@pytest.mark.parametrize("spec", WHOLE)
def test_prompts_differ_exactly_where_what_the_seat_knows_differs(spec: str) -> None:
    """Over the whole tree, so over all deals: one information state, one prompt.

    One way, nothing of another's hand is told; the other way, nothing is forgotten.
    """
    prompts: dict[tuple[int, str], set[str]] = {}
    known: dict[str, set[tuple[int, str]]] = {}
    for turn in every_turn(Game.load(spec)):
        knows = (turn.seat, turn.state.raw.information_state_string(turn.seat))
        told = _told(turn)
        prompts.setdefault(knows, set()).add(told)
        known.setdefault(told, set()).add(knows)
    assert len(prompts) >= 8
    assert {len(told) for told in prompts.values()} == {1}
    assert {len(knows) for knows in known.values()} == {1}


def test_leduc_prompts_are_the_same_for_all_cards_that_the_seat_cannot_see() -> None:
    # With suits, which no prompt tells: a rank's two cards are worth the same.
    prompts: dict[tuple[int, str], set[str]] = {}
    for turn in every_turn(Game.load("leduc_poker")):
        knows = (turn.seat, turn.state.raw.information_state_string(turn.seat))
        prompts.setdefault(knows, set()).add(_told(turn))
    assert len(prompts) == 936  # all that OpenSpiel's own comment counts
    assert {len(told) for told in prompts.values()} == {1}


@pytest.mark.parametrize("deal", list(itertools.permutations(range(3), 2)))
def test_kuhn_says_check_and_bet_or_fold_and_call_for_every_deal(deal: tuple[int, int]) -> None:
    free, pressed = '"Pass" (Check), "Bet" (Bet)', '"Pass" (Fold), "Bet" (Call)'
    for betting, legal in [((), free), ((0,), free), ((1,), pressed), ((0, 1), pressed)]:
        turn = turn_after("kuhn_poker", [*deal, *betting])
        told = _told(turn)
        assert f"\nLegal actions: {legal}\n" in told
        assert f"\nYou are player {turn.seat}.\nYour card: {_RANKS[deal[turn.seat]]}\n" in told
        # Once in the rules; the own card once more.
        assert [told.count(rank) for rank in _RANKS] == [
            1 + (rank == deal[turn.seat]) for rank in range(3)
        ]


def test_kuhn_of_three_tells_who_did_what() -> None:
    turn = turn_after("kuhn_poker(players=3)", [0, 3, 2, 0, 1, 0])
    assert (turn.seat, turn.state.raw.information_state_string(0)) == (0, "0pbp")
    assert (
        "Your card: 1\n"
        "Betting so far: player 0: Pass (Check), player 1: Bet (Bet), player 2: Pass (Fold)\n"
        "Pot: 4 chips\n"
        'Legal actions: "Pass" (Fold), "Bet" (Call)\n'
    ) in _told(turn)


def test_kuhn_of_ten_reads_a_card_of_two_digits() -> None:
    turn = turn_after("kuhn_poker(players=10)", range(10, 0, -1))
    assert "Your card: 11\n" in _told(turn)


def test_leduc_tells_cards_betting_and_what_each_action_costs() -> None:
    # Jack against King; raise, call; a Queen; raise, raise.
    turn = turn_after("leduc_poker", [0, 5, 2, 1, 3, 2, 2])
    assert (
        "Your card: Jack\n"
        "Public card: Queen\n"
        "Betting in round 1: player 0: Raise, player 1: Call\n"
        "Betting in round 2: player 0: Raise, player 1: Raise\n"
        "Chips put in: player 0: 7, player 1: 11\n"
        'Legal actions: "Fold", "Call" (puts in 4 chips)\n'
    ) in _told(turn)
    first = turn_after("leduc_poker", [0, 5])
    assert 'Legal actions: "Call" (check), "Raise" (puts in 2 chips)\n' in _told(first)


def test_leduc_chips_are_those_that_openspiel_takes() -> None:
    for seed in range(20):
        for turn in playout("leduc_poker(players=3)", seed):
            for action in turn.legal:
                note = turn.game.family.note(turn.state, turn.seat, action)
                costs = int(re.sub(r"\D", "", note) or 0)
                after = turn.state.raw.child(action.action)
                if after.is_terminal():
                    continue  # there the winnings are paid out
                paid = [
                    re.search(r"Money: ([-\d ]+)", state.information_state_string(turn.seat))
                    for state in (turn.state.raw, after)
                ]
                before, left = (int(p[1].split()[turn.seat]) for p in paid if p)
                assert before - left == costs


def test_leduc_of_three_tells_moves_after_a_fold_by_the_right_seats() -> None:
    turn = turn_after("leduc_poker(players=3)", [0, 2, 4, 2, 0, 1, 6])
    told = _told(turn)
    assert "round 1: player 0: Raise, player 1: Fold, player 2: Call\n" in told
    assert "Public card: 4\n" in told


def test_liars_dice_tells_the_own_dice_in_order_and_all_bids() -> None:
    # Rolls 6 2 against 5 5; bids 1-3 and 2-6.
    turn = turn_after("liars_dice(numdice=2)", [5, 1, 4, 4, 2, 11])
    assert "Your dice: 2 6\nBids so far: player 0: 1-3, player 1: 2-6\n" in _told(turn)
    other = turn_after("liars_dice(numdice=2)", [5, 1, 4, 4, 2])
    assert "Your dice: 5 5\nBids so far: player 0: 1-3\n" in _told(other)


def test_the_liars_dice_rules_say_who_wins() -> None:
    # One 2 and one wild 6 are two 2s: the bid of 2-2 holds, of 2-3 does not.
    holds = reach(Game.load("liars_dice"), [1, 5, 7, 12])
    fails = reach(Game.load("liars_dice"), [1, 5, 8, 12])
    assert [move.text for move in holds.history[2:]] == ["2-2", "Liar"]
    assert (holds.returns(), fails.returns()) == ((1.0, -1.0), (-1.0, 1.0))


def test_a_spectator_sees_all_cards_and_dice() -> None:
    boards = {
        spec: reach(Game.load(spec), actions).board()
        for spec, actions in {
            "kuhn_poker": [2, 0, 1],
            "leduc_poker": [0, 5, 1],
            "liars_dice": [0, 5, 3],
        }.items()
    }
    assert boards["kuhn_poker"].startswith("player 0: King\nplayer 1: Jack\n")
    assert boards["leduc_poker"].startswith("player 0: Jack\nplayer 1: King\n")
    assert boards["liars_dice"] == "player 0: 1\nplayer 1: 6\nBids so far: player 0: 1-4"


@pytest.mark.parametrize("spec", ["kuhn_poker(players=3)", "leduc_poker", "liars_dice(numdice=2)"])
def test_a_spectator_sees_every_position_from_the_deal_to_the_end(spec: str) -> None:
    game = Game.load(spec)
    for turn in itertools.islice(every_turn(game), 300):
        for action in turn.legal:
            history = [move.action for move in turn.state.history]
            assert reach(game, [*history, action.action]).board()
    assert game.new().board()


def test_a_generic_game_with_secrets_tells_only_the_seats_own_view() -> None:
    # The other's hidden mark is elsewhere; this seat has seen the same.
    told = {_told(turn_after("phantom_ttt", [4, other])) for other in (0, 1, 8)}
    assert len(told) == 1
    # Here it has hit the other's mark, and knows.
    assert _told(turn_after("phantom_ttt", [4, 0, 0])) not in told


def test_a_generic_game_with_secrets_tells_all_that_the_seat_has_seen() -> None:
    turn = turn_after("phantom_ttt", [4, 0, 0])  # the third move hit a mark that was not seen
    seen = turn.state.raw.information_state_string(turn.seat)
    assert seen != turn.state.raw.observation_string(turn.seat)
    assert seen.rstrip() in _told(turn)
