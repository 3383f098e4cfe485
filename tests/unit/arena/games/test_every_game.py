"""Each of OpenSpiel's games has a prompt that agrees with the engine, or is refused."""

from __future__ import annotations

import re
from collections import defaultdict

import open_spiel.python.games  # noqa: F401 - registers the games that are written in Python
import pyspiel
import pytest

from arena.agents.base import Turn
from arena.agents.llm import list_names
from arena.agents.prompt import as_text, build_prompt
from arena.agents.reply import match_action
from arena.games.game import Game, GameError
from arena.games.text import GameText, find_text
from arena.games.text.base import list_parameters
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

#: Games that are made of another one.
WRAPPED = [
    "misere(game=breakthrough())",
    "zerosum(game=leduc_poker())",
    "add_noise(epsilon=0.5,seed=1,game=kuhn_poker())",
    "cached_tree(game=kuhn_poker())",
    "turn_based_simultaneous_game(game=matrix_rps())",
    "turn_based_simultaneous_game(game=goofspiel(num_cards=4))",
    "start_at(game=tic_tac_toe(),history=0;4)",
]

HEADING = re.compile(r"\nLegal actions, one per line( \(brackets .*\))?:\n")


@pytest.mark.parametrize("name", [*sorted({*NAMES} - REFUSED), *WRAPPED])
def test_a_prompt_agrees_with_the_engine(name: str) -> None:
    views: dict[str, set[tuple[int, str]]] = defaultdict(set)
    turns = 0
    for turn in playout(name, seed=1, most=25):
        turns += 1
        prompt = as_text(build_prompt(turn, "choices"))
        text = turn.game.text
        raw = turn.state.raw
        assert prompt.startswith(text.rules)
        assert f"layer {turn.seat}" in text.side(turn.seat)
        assert turn.state.board() is not None  # some are empty at the start
        _check_legal_actions(turn, prompt)
        if turn.game.raw.get_type().provides_information_state_string:
            views[prompt].add((turn.seat, raw.information_state_string(turn.seat)))
        if text.generic:
            _check_generic(turn, prompt)
    assert turns
    if not turn.game.perfect_information:
        # What OpenSpiel tells apart for the seat, its prompt tells apart too.
        assert [states for states in views.values() if len(states) > 1] == []


def _check_legal_actions(turn: Turn, prompt: str) -> None:
    """The list has the engine's legal actions, and each is read as itself."""
    listed = HEADING.split(prompt)[-1].rpartition("\n\nYour action:")[0]
    names = list_names(turn)
    lines = [
        f"{action.text} (here: {note})" if note else action.text
        for action, note in zip(turn.legal, names.notes, strict=True)
    ]
    assert listed == "\n".join(lines)
    assert [a.action for a in turn.legal] == turn.state.raw.legal_actions(turn.seat)
    for action, line in zip(turn.legal, lines, strict=True):
        for text in (action.text, line):
            assert (found := match_action(text, names)), text
            assert found[0] == action


def _check_generic(turn: Turn, prompt: str) -> None:
    """All parameters are there; and, if information is hidden, the seat's own history."""
    game = turn.game.raw
    assert f"\nParameters: {list_parameters(game)}.\n" in prompt
    kind = game.get_type()
    hidden = kind.information == pyspiel.GameType.Information.IMPERFECT_INFORMATION
    if hidden and not kind.provides_information_state_string:
        own = [played.text for played in turn.state.history if played.seat == turn.seat]
        position = turn.game.text.position(turn.state, turn.seat)
        assert [text for text in own if text.strip() not in position] == []


@pytest.mark.parametrize("name", sorted(REFUSED & {*NAMES}))
def test_all_other_games_are_refused(name: str) -> None:
    with pytest.raises(GameError, match=f"game {name}: "):
        Game.load(name)


def test_simultaneous_moves_that_are_made_in_turn_stay_hidden() -> None:
    spec = "turn_based_simultaneous_game(game=goofspiel(num_cards=3))"
    turns = [turn_after(spec, [0, bid]) for bid in range(3)]  # a chance event reveals a card first
    assert {turn.seat for turn in turns} == {1}
    assert len({as_text(build_prompt(turn, "json")) for turn in turns}) == 1


#: Other values of parameters, for which adding 1 gives no game.
OTHER = {
    ("backgammon", "scoring_type"): "full_scoring",
    ("dark_hex", "gameversion"): "adh",
    ("goofspiel", "points_order"): "descending",
    ("goofspiel", "returns_type"): "point_difference",
    ("goofspiel", "num_turns"): 5,
    ("leduc_poker", "starting_player"): 1,
    ("liars_dice", "bidding_rule"): "reset-quantity",
    ("nim", "pile_sizes"): "2;2",
    ("phantom_ttt", "gameversion"): "abrupt",
}
#: Parameters that another one decides, that change how positions look, or have one value only.
NOT_IN_RULES = {
    ("chess", "chess960"), ("dark_hex", "board_size"), ("dark_hex", "obstype"),
    ("go", "handicap"), ("gomoku", "dims"), ("hex", "board_size"),
    ("leduc_poker", "suit_isomorphism"), ("liars_dice", "players"), ("phantom_ttt", "obstype"),
}  # fmt: skip


def _own_parameters() -> list[tuple[str, str]]:
    names = (
        name for kind in GameText.__subclasses__() for name in kind.games if name not in REFUSED
    )
    return [
        (name, key)
        for name in names
        if name != "universal_poker"
        for key in pyspiel.load_game(name).get_type().parameter_specification
        if f"{key}=" in list_parameters(pyspiel.load_game(name)) and (name, key) not in NOT_IN_RULES
    ]


@pytest.mark.parametrize(("name", "key"), _own_parameters())
def test_rules_of_our_own_tell_every_parameter(name: str, key: str) -> None:
    """The rules change with the parameter, so they contain its value, the default included."""
    value = pyspiel.load_game(name).get_type().parameter_specification[key]
    other = OTHER.get((name, key))
    if other is None:
        other = (not value) if isinstance(value, bool) else value + 1
    usual, changed = (find_text(pyspiel.load_game(name, p)).rules for p in ({}, {key: other}))
    assert usual != changed


def test_poker_rules_tell_every_parameter() -> None:
    betting = {
        "betting": "limit", "numPlayers": 3, "numRounds": 3, "blind": "50 100 0",
        "firstPlayer": "3 1 2", "numSuits": 3, "numRanks": 5, "numHoleCards": 2,
        "numBoardCards": "0 1 2", "raiseSize": "10 20 30", "maxRaises": "2 3 4",
        "stack": "900 800 700",
    }  # fmt: skip
    rules = find_text(pyspiel.load_game("universal_poker", betting)).rules
    for words in (
        "with 3 players (3 rounds)", "2 3 4 5 6, from", "clubs (c), diamonds (d), hearts (h).",
        "has any number of chips", "50 (player 0), 100 (player 1)", "is dealt 2 cards",
        "1 public card before round 2, 2 public cards before round 3", "10 20 30, by round",
        "player 2 in round 1, player 0 in round 2, player 1 in round 3", "in a round are 2 3 4.",
    ):  # fmt: skip
        assert words in rules
    rules = find_text(pyspiel.load_game("universal_poker", betting | {"betting": "nolimit"})).rules
    assert "900 (player 0), 800 (player 1), 700 (player 2) chips" in rules
