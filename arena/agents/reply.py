"""Reads a model's reply strictly: only the documented format is a move."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from arena.agents.base import AnswerStatus
from arena.games.game import LegalAction

#: A longer reply is rejected without being parsed.
MAX_CHARACTERS = 100_000

_KEYS = {"reasoning", "action"}


class ParsedReply(NamedTuple):
    """What a reply says; the fields are those of Answer."""

    status: AnswerStatus
    action: int | None = None
    problem: str = ""
    reasoning: str = ""


def parse_json(text: str, legal: Sequence[LegalAction]) -> ParsedReply:
    """Read {"reasoning": string, "action": string}, without any text around it.

    The action must equal the text of a legal action exactly. Never raises.
    """
    try:
        reasoning, action = _fields(text)
    except ValueError as error:
        return ParsedReply(AnswerStatus.UNPARSEABLE, problem=str(error))
    answer = _match(action, legal)
    return answer._replace(reasoning=reasoning)


def parse_choice(text: str, legal: Sequence[LegalAction]) -> ParsedReply:
    """Read the bare text of an action. The text is empty if the backend could not enforce one."""
    if not text:
        return ParsedReply(AnswerStatus.UNPARSEABLE, problem="the reply is not a legal action")
    return _match(text, legal)


def _match(text: str, legal: Sequence[LegalAction]) -> ParsedReply:
    for action in legal:
        if action.text == text:
            return ParsedReply(AnswerStatus.OK, action.action)
    return ParsedReply(AnswerStatus.ILLEGAL, problem=f"{_shorten(text)} is not a legal action")


def _fields(text: str) -> tuple[str, str]:
    """Reasoning and action. Raises ValueError; the player reads its message."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"the reply is longer than {MAX_CHARACTERS} characters")
    if not text.strip():
        raise ValueError("the reply is empty")
    if text.lstrip().startswith("```"):
        raise ValueError("the reply is in a code fence")
    try:
        # No number is valid here. As a float it parses at any length; an int of many
        # digits would raise.
        value = json.loads(
            text, object_pairs_hook=_make_object, parse_constant=_refuse_constant, parse_int=float
        )
        # Escapes such as \ud800 make strings that cannot be stored in a file or database.
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"invalid at character {error.pos + 1}"
        raise ValueError(f"the reply is not a single JSON object: {where}") from None
    except UnicodeEncodeError:
        raise ValueError("the reply contains an invalid character (a lone surrogate)") from None
    except RecursionError:
        raise ValueError("the reply is nested too deeply") from None
    return _read_fields(value)


def _read_fields(value: Any) -> tuple[str, str]:
    if not isinstance(value, dict):
        raise ValueError("the reply is JSON, but not an object")
    if value.keys() != _KEYS:
        keys = ", ".join(map(_shorten, value)) or "none"
        raise ValueError(f'the keys must be "reasoning" and "action", not {keys}')
    for key in _KEYS:
        if not isinstance(value[key], str):
            raise ValueError(f'the value of "{key}" must be a string')
    return value["reasoning"], value["action"]


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key appears twice in the JSON object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


def _shorten(text: str) -> str:
    """A text of a model, quoted and cut to fit into one line."""
    return json.dumps(text if len(text) <= 60 else f"{text[:60]}...", ensure_ascii=False)
