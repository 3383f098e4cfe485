"""Parsing of replies: only the documented format is a move."""

from __future__ import annotations

import json
import random

import pytest

from arena.agents.base import AnswerStatus
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
    assert parse_json(text, LEGAL) == (AnswerStatus.OK, action, "", reasoning, "strict")


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
def test_an_action_that_is_not_listed_exactly_so_is_illegal(action: str) -> None:
    text = json.dumps({"reasoning": "because", "action": action})
    answer = parse_json(text, LEGAL)
    assert (answer.status, answer.action, answer.reasoning) == (
        AnswerStatus.ILLEGAL,
        None,
        "because",
    )
    assert answer.problem == f"{json.dumps(action, ensure_ascii=False)} is not a legal action"


OK = '{"reasoning": "r", "action": "x(0,0)"}'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the reply is empty"),
        (" \n\t", "the reply is empty"),
        (f"```json\n{OK}\n```", "code fence"),
        (f"\n```\n{OK}```", "code fence"),
        (f"Here you are: {OK}", "not a single JSON object"),
        (f"{OK} Good luck!", "not a single JSON object: invalid at character"),
        (f"{OK}\n{OK}", "not a single JSON object: invalid at character"),
        (f"<think>hm</think>{OK}", "not a single JSON object"),
        (f"\ufeff{OK}", "not a single JSON object"),
        (OK[:-1], "not a single JSON object"),
        (OK.replace('"', "'"), "not a single JSON object"),
        ('{"reasoning": "a\nb", "action": "x(0,0)"}', "invalid at character 17"),
        ('{"reasoning": "r", "action": "x(0,0)",}', "not a single JSON object"),
        (f"[{OK}]", "not an object"),
        ('"x(0,0)"', "not an object"),
        ("3", "not an object"),
        ("null", "not an object"),
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
        ('{"reasoning": NaN, "action": "x(0,0)"}', "NaN is not valid JSON"),
        ('{"reasoning": -Infinity, "action": "x(0,0)"}', "-Infinity is not valid JSON"),
        ('{"reasoning": 1e999, "action": "x(0,0)"}', '"reasoning" must be a string'),
        (f'{{"reasoning": {"9" * 5000}, "action": "x(0,0)"}}', '"reasoning" must be a string'),
        ('{"reasoning": "\\ud800", "action": "x(0,0)"}', "lone surrogate"),
        ('{"reasoning": "r", "action": "\\udc00"}', "lone surrogate"),
        ("[" * 50_000, "nested too deeply"),
        ('{"a":' * 15_000, "nested too deeply"),
        (f'{{"reasoning": "{"r" * MAX_CHARACTERS}", "action": "x(0,0)"}}', "longer than 100000"),
    ],
)  # fmt: skip
def test_any_other_format_is_unparseable(text: str, problem: str) -> None:
    answer = parse_json(text, LEGAL)
    assert (answer.status, answer.action, answer.reasoning) == (AnswerStatus.UNPARSEABLE, None, "")
    assert problem in answer.problem
    assert len(answer.problem) < 300


def test_the_longest_reply_that_is_parsed() -> None:
    room = MAX_CHARACTERS - len(OK) + 1
    assert parse_json(OK.replace('"r"', f'"{"r" * room}"'), LEGAL).status is AnswerStatus.OK


def test_a_problem_is_one_short_line() -> None:
    illegal = parse_json(json.dumps({"reasoning": "", "action": "y\n" * 4000}), LEGAL)
    keys = parse_json(json.dumps({"k" * 9000: 1}), LEGAL)
    for answer in (illegal, keys):
        assert len(answer.problem) < 200
        assert "\n" not in answer.problem


def test_random_texts_never_raise() -> None:
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
        assert (answer.status is AnswerStatus.OK) == (answer.action is not None)


@pytest.mark.parametrize(
    ("text", "status", "action"),
    [
        ("Bb5", AnswerStatus.OK, 5),
        ("bb5", AnswerStatus.OK, 6),
        ("Bb5 ", AnswerStatus.ILLEGAL, None),
        # The backend could not enforce the choices.
        ("", AnswerStatus.UNPARSEABLE, None),
    ],
)
def test_a_choice_must_equal_a_legal_action(
    text: str, status: AnswerStatus, action: int | None
) -> None:
    assert parse_choice(text, LEGAL)[:2] == (status, action)
