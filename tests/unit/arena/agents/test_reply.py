"""Replies: the documented format, or it is no move."""

from __future__ import annotations

import json
import random

import pytest

from arena.agents.base import Status
from arena.agents.reply import MAX_CHARACTERS, parse_choice, parse_json
from arena.games.game import LegalAction

LEGAL = (
    LegalAction(3, "x(0,0)"),
    LegalAction(5, "Bb5"),
    LegalAction(6, "bb5"),
    LegalAction(8, "♛é"),
)


@pytest.mark.parametrize(
    ("text", "action", "reasoning"),
    [
        ('{"reasoning": "centre", "action": "x(0,0)"}', 3, "centre"),
        (' \n{"action":"Bb5","reasoning":""}\n\n', 5, ""),
        ('{"reasoning": "r", "action": "bb5"}', 6, "r"),
        ('{"reasoning": "schön 🎲", "action": "♛é"}', 8, "schön 🎲"),
        ('{"reasoning": "a\\nb \\ud83c\\udfb2", "action": "\\u265b\\u00e9"}', 8, "a\nb 🎲"),
    ],
)
def test_the_documented_format_is_read(text: str, action: int, reasoning: str) -> None:
    assert parse_json(text, LEGAL) == (Status.OK, action, "", reasoning)


@pytest.mark.parametrize(
    "action",
    [
        "x(1,1)",
        "",
        "x(0,0) ",
        " x(0,0)",
        "X(0,0)",
        "BB5",
        "0",
        "3",
        "♛e\u0301",
        '"x(0,0)"',
        "\u0000",
    ],
)
def test_what_is_no_legal_action_as_it_stands_is_illegal(action: str) -> None:
    text = json.dumps({"reasoning": "because", "action": action})
    answer = parse_json(text, LEGAL)
    assert (answer.status, answer.action, answer.reasoning) == (Status.ILLEGAL, None, "because")
    assert (
        answer.problem == f"{json.dumps(action, ensure_ascii=False)} is none of the legal actions"
    )


OK = '{"reasoning": "r", "action": "x(0,0)"}'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the reply is empty"),
        (" \n\t", "the reply is empty"),
        (f"```json\n{OK}\n```", "code fence"),
        (f"\n```\n{OK}```", "code fence"),
        (f"Here you are: {OK}", "not one JSON object"),
        (f"{OK} Good luck!", "Extra data"),
        (f"{OK}\n{OK}", "Extra data"),
        (f"<think>hm</think>{OK}", "not one JSON object"),
        (f"\ufeff{OK}", "not one JSON object"),
        (OK[:-1], "not one JSON object"),
        (OK.replace('"', "'"), "not one JSON object"),
        ('{"reasoning": "a\nb", "action": "x(0,0)"}', "Invalid control character"),
        ('{"reasoning": "r", "action": "x(0,0)",}', "not one JSON object"),
        (f"[{OK}]", "no object"),
        ('"x(0,0)"', "no object"),
        ("3", "no object"),
        ("null", "no object"),
        ("{}", "the keys must be"),
        ('{"action": "x(0,0)"}', 'must be "reasoning" and "action", not "action"'),
        ('{"reasoning": "r", "move": "x(0,0)"}', 'not "reasoning", "move"'),
        ('{"reasoning": "r", "action": "x(0,0)", "confidence": 1}', "the keys must be"),
        ('{"Reasoning": "r", "Action": "x(0,0)"}', "the keys must be"),
        ('{"reasoning": "r", "action": "x(1,1)", "action": "x(0,0)"}', "appears twice"),
        ('{"reasoning": {"a": 1, "a": 2}, "action": "x(0,0)"}', "appears twice"),
        ('{"reasoning": "r", "action": 3}', '"action" must be a string'),
        ('{"reasoning": "r", "action": 3.0}', '"action" must be a string'),
        ('{"reasoning": "r", "action": null}', '"action" must be a string'),
        ('{"reasoning": "r", "action": true}', '"action" must be a string'),
        ('{"reasoning": "r", "action": ["x(0,0)"]}', '"action" must be a string'),
        ('{"reasoning": "r", "action": {"action": "x(0,0)"}}', '"action" must be a string'),
        ('{"reasoning": null, "action": "x(0,0)"}', '"reasoning" must be a string'),
        ('{"reasoning": NaN, "action": "x(0,0)"}', "NaN is no JSON"),
        ('{"reasoning": -Infinity, "action": "x(0,0)"}', "-Infinity is no JSON"),
        ('{"reasoning": 1e999, "action": "x(0,0)"}', '"reasoning" must be a string'),
        (f'{{"reasoning": {"9" * 5000}, "action": "x(0,0)"}}', '"reasoning" must be a string'),
        ('{"reasoning": "\\ud800", "action": "x(0,0)"}', "half a character"),
        ('{"reasoning": "r", "action": "\\udc00"}', "half a character"),
        ("[" * 50_000, "nested too deeply"),
        ('{"a":' * 15_000, "nested too deeply"),
        (f'{{"reasoning": "{"r" * MAX_CHARACTERS}", "action": "x(0,0)"}}', "longer than 100000"),
    ],
)  # fmt: skip
def test_all_else_is_unparseable_and_says_why(text: str, problem: str) -> None:
    answer = parse_json(text, LEGAL)
    assert (answer.status, answer.action, answer.reasoning) == (Status.UNPARSEABLE, None, "")
    assert problem in answer.problem
    assert len(answer.problem) < 300


def test_a_reply_that_is_just_short_enough_is_read() -> None:
    room = MAX_CHARACTERS - len(OK) + 1
    assert parse_json(OK.replace('"r"', f'"{"r" * room}"'), LEGAL).status is Status.OK


def test_a_problem_quotes_no_more_than_a_line_of_a_reply() -> None:
    illegal = parse_json(json.dumps({"reasoning": "", "action": "y\n" * 4000}), LEGAL)
    keys = parse_json(json.dumps({"k" * 9000: 1}), LEGAL)
    for answer in (illegal, keys):
        assert len(answer.problem) < 200
        assert "\n" not in answer.problem


def test_no_text_at_all_raises() -> None:
    rng = random.Random(1)  # noqa: S311 - text, not a secret
    alphabet = [
        '"',
        "{",
        "}",
        "[",
        ":",
        ",",
        "\\",
        "u",
        "d8",
        "reasoning",
        "action",
        "x(0,0)",
        "é",
        "1e9",
    ]
    for _ in range(5000):
        text = "".join(rng.choices(alphabet, k=rng.randrange(30)))
        answer = parse_json(text, LEGAL)
        assert (answer.status is Status.OK) == (answer.action is not None)


@pytest.mark.parametrize(
    ("text", "status", "action"),
    [
        ("Bb5", Status.OK, 5),
        ("bb5", Status.OK, 6),
        ("Bb5 ", Status.ILLEGAL, None),
        # The backend could not make the model keep to them.
        ("", Status.UNPARSEABLE, None),
    ],
)
def test_a_choice_is_one_of_the_actions_strings(
    text: str, status: Status, action: int | None
) -> None:
    assert parse_choice(text, LEGAL)[:2] == (status, action)
