"""Replies of many kinds, as models write them: replies.json.

chooses: the action that a person would say the reply chooses; null if it chooses none. unread:
those that the reader does not read, which is a loss, but no wrong move.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from arena.agents.base import Turn
from arena.agents.llm import list_names
from arena.agents.reply import MAX_CHARACTERS, parse_json, read_leniently
from arena.games.game import CHANCE, Game
from tests.support.game_turns import turn_in

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("replies.json").read_text())


@cache
def make_turn(spec: str, moves: tuple[int | str, ...]) -> Turn:
    """The turn after these moves, by name; chance events by number."""
    game = Game.load(spec)
    state = game.new()
    for move in moves:
        seat = CHANCE if state.is_chance else state.players_to_move()[0]
        legal = () if state.is_chance else state.legal_actions(seat)
        named = next((action.action for action in legal if action.text == move), move)
        state.apply({seat: int(named)})
    return turn_in(game, state, state.players_to_move()[0])


def read(case: dict[str, Any], reply: str) -> str | None:
    turn = make_turn(case["game"], tuple(case["moves"]))
    found = read_leniently(reply, list_names(turn)).action
    return next((action.text for action in turn.legal if action.action == found), None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}-{case['game']}")
def test_replies_are_read_as_a_person_reads_them(case: dict[str, Any]) -> None:
    wrong = {text: read(case, text) for text in case["replies"]}
    assert {text: found for text, found in wrong.items() if found != case["chooses"]} == {}
    for text in case.get("unread", ()):
        assert read(case, text) is None, text


def test_the_lenient_reader_keeps_nearly_all_moves_that_a_strict_one_loses() -> None:
    chosen = strict = lost = kinds = 0
    for case in CASES:
        if case["chooses"] is not None:
            unread = case.get("unread", [])
            turn = make_turn(case["game"], tuple(case["moves"]))
            chosen += len(case["replies"]) + len(unread)
            lost += len(unread)
            strict += sum(
                parse_json(text, turn.legal).action is not None for text in case["replies"]
            )
            kinds += 1
    assert kinds > 20
    assert chosen > 200
    assert strict / chosen < 0.1
    assert lost / chosen < 0.05


def test_names_that_two_actions_share_are_not_read() -> None:
    """Two knights can go to the same place."""
    turn = make_turn("chess", ("Nf3", "a6", "d4", "a5"))
    texts = {action.text for action in turn.legal}
    assert {"Nbd2", "Nfd2"} <= texts
    for text in ("Nd2", "knight to d2", "N-d2"):
        assert read_leniently(json.dumps({"action": text}), list_names(turn)).action is None
    for text in ("b1d2", "Nb1-d2", "Nb1d2", "3. Nbd2"):
        found = read_leniently(json.dumps({"action": text}), list_names(turn)).action
        assert next(a.text for a in turn.legal if a.action == found) == "Nbd2"
    assert read_leniently('{"action": "9. Nbd2"}', list_names(turn)).action is None


@pytest.mark.parametrize(
    "lead",
    [
        "Here is my answer in the requested JSON format:\n",
        "To block my opponent I play here: ",
        "After considering the previous moves, here is my action:\n```json\n",
        "My thought process led me to this:\n\n",
        "Don't worry, here it is. ",
        "If I had to choose: ",
    ],
)
def test_usual_words_before_an_object_do_not_deny_it(lead: str) -> None:
    case = CASES[0]
    assert read(case, f'{lead}{{"reasoning": "r", "action": "Nf3"}}') == "Nf3"


@pytest.mark.parametrize(
    "piece",
    [
        "\n",
        "*",
        "action: x\n",
        '{"action":',
        "{action:a,",
        "**final answer**\n",
        "my ",
        "<think>",
        "[{",
    ],
)
def test_a_long_reply_takes_no_long_time(piece: str) -> None:
    """A reader with quadratic time would take minutes, and the test would not end."""
    text = piece * (MAX_CHARACTERS // len(piece))
    assert read_leniently(text, list_names(make_turn("chess", ()))).action is None
