"""Replies of hf and vllm obey a list of choices, a JSON schema, a regex or a grammar."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from arena_llm import Client
from arena_llm.errors import ArenaError
from arena_llm.types import Completion, Enforcement, FinishReason, Grammar, GrammarSyntax
from tests.support.local_models import PROMPT, LocalService


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"grammar": Grammar(GrammarSyntax.LARK, 'start: "go " /[a-h]/ /[1-8]/')}, "go [a-h][1-8]"),
        ({"grammar": Grammar(GrammarSyntax.GBNF, 'root ::= "go " [a-h] [1-8]')}, "go [a-h][1-8]"),
    ],
    ids=["lark", "gbnf"],
)
def test_a_text_follows_its_grammar(
    service: LocalService, llm: Client, options: dict[str, Any], pattern: str
) -> None:
    for seed in range(4):
        reply = llm.generate(service.tiny, PROMPT, seed=seed, **options)
        assert re.fullmatch(pattern, reply.text)
        assert reply.enforcement is Enforcement.DECODING


def test_any_json_object(service: LocalService, llm: Client) -> None:
    for seed in range(4):
        reply = llm.generate(service.tiny, PROMPT, json_object=True, seed=seed, max_tokens=100)
        if reply.finish_reason is FinishReason.STOP:
            assert isinstance(json.loads(reply.text), dict)
        assert reply.text.startswith("{")


@pytest.mark.parametrize(
    "choice",
    ["1", " x", '"q"', "back\\slash", "two\nlines", "e\u0301", "日本", "😀", "a.*(b)", "a/b|c"],
    ids=repr,
)
def test_an_unusual_choice_is_returned_unchanged(
    service: LocalService, llm: Client, choice: str
) -> None:
    assert llm.generate(service.tiny, PROMPT, choices=[choice]).text == choice


@pytest.mark.parametrize(
    "choices",
    [["1", "10", "100"], ["Bet", "Pass"], ["e2e4", "e2e3", "e7e8q"], ["4", "44", "74"]],
    ids=repr,
)
def test_every_choice_can_be_returned(
    service: LocalService, llm: Client, choices: list[str]
) -> None:
    """Also choices that begin or end another one."""
    texts = set()
    for begin in range(0, 256, 64):
        prompts = [f"{n}: your move?" for n in range(begin, begin + 64)]
        many = llm.generate_many(service.tiny, prompts, choices=choices, temperature=2.0)
        for _, reply in many:
            assert isinstance(reply, Completion), reply
            assert reply.finish_reason == FinishReason.STOP
            texts.add(reply.text)
        if len(texts) == len(choices):
            break
    assert texts == set(choices)


def test_thousands_of_choices(service: LocalService, llm: Client) -> None:
    choices = [f"move {n}" for n in range(4096)]
    assert llm.generate(service.tiny, PROMPT, choices=choices).text in choices


SCHEMA = {
    "type": "object",
    "properties": {"cell": {"type": "integer", "minimum": 0, "maximum": 8}},
    "required": ["cell"],
    "additionalProperties": False,
}


def test_json_obeys_its_schema(service: LocalService, llm: Client) -> None:
    for seed in range(4):
        reply = llm.generate(service.tiny, PROMPT, json_schema=SCHEMA, seed=seed, max_tokens=64)
        value = json.loads(reply.text)
        assert [*value] == ["cell"]
        assert value["cell"] in range(9)


def test_a_text_matches_its_regex(service: LocalService, llm: Client) -> None:
    for seed in range(4):
        reply = llm.generate(service.tiny, PROMPT, regex="[a-h][1-8]-[a-h][1-8]", seed=seed)
        assert re.fullmatch("[a-h][1-8]-[a-h][1-8]", reply.text)


@pytest.mark.parametrize("constraint", [{"json_schema": {"$ref": "#"}}, {"regex": r"[^\s\S]"}])
def test_a_constraint_that_no_text_satisfies_is_refused(
    service: LocalService, llm: Client, constraint: dict[str, Any]
) -> None:
    """llguidance itself would let the model end immediately."""
    with pytest.raises(ArenaError, match="cannot be used") as caught:
        llm.generate(service.tiny, PROMPT, max_tokens=20, **constraint)
    assert caught.value.field == f"constraint.{next(iter(constraint))}"
