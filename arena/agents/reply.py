"""Reading a model's reply, strictly: the documented format, or it is no move."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from arena.agents.base import Status
from arena.games.game import LegalAction

#: Most characters of a reply that are read.
MAX_CHARACTERS = 100_000

_KEYS = {"reasoning", "action"}


class Answer(NamedTuple):
    """A reply, read; the fields are those of Attempt."""

    status: Status
    action: int | None = None
    problem: str = ""
    reasoning: str = ""


def parse_json(text: str, legal: Sequence[LegalAction]) -> Answer:
    """Read {"reasoning": string, "action": string} and nothing around it.

    The action is compared with the legal ones' strings as it stands. Whatever the text
    is, nothing is raised.
    """
    try:
        reasoning, action = _fields(text)
    except ValueError as error:
        return Answer(Status.UNPARSEABLE, problem=str(error))
    answer = _match(action, legal)
    return answer._replace(reasoning=reasoning)


def parse_choice(text: str, legal: Sequence[LegalAction]) -> Answer:
    """Read a bare action's string, which the backend was to see to; "" if it could not."""
    if not text:
        return Answer(Status.UNPARSEABLE, problem="the reply is none of the legal actions")
    return _match(text, legal)


def _match(text: str, legal: Sequence[LegalAction]) -> Answer:
    for action in legal:
        if action.text == text:
            return Answer(Status.OK, action.action)
    return Answer(Status.ILLEGAL, problem=f"{_shown(text)} is none of the legal actions")


def _fields(text: str) -> tuple[str, str]:
    """Reasoning and action. Raises ValueError, with words for the player."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"the reply is longer than {MAX_CHARACTERS} characters")
    if not text.strip():
        raise ValueError("the reply is empty")
    if text.lstrip().startswith("```"):
        raise ValueError("the reply stands in a code fence")
    try:
        # No number is wanted: a float never fails, an int of many digits would.
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_int=float
        )
        # Escapes such as \ud800 make strings that no file and no database takes.
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"the reply is not one JSON object and nothing else: {error}") from None
    except UnicodeEncodeError:
        raise ValueError("the reply holds half a character (a lone surrogate)") from None
    except RecursionError:
        raise ValueError("the reply is nested too deeply") from None
    return _checked(value)


def _checked(value: Any) -> tuple[str, str]:
    if not isinstance(value, dict):
        raise ValueError("the reply is JSON, but no object")
    if value.keys() != _KEYS:
        keys = ", ".join(map(_shown, value)) or "none"
        raise ValueError(f'the keys must be "reasoning" and "action", not {keys}')
    for key in _KEYS:
        if not isinstance(value[key], str):
            raise ValueError(f'the value of "{key}" must be a string')
    return value["reasoning"], value["action"]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key appears twice in the JSON object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _shown(text: str) -> str:
    """A string from a model, in a message's one line."""
    return json.dumps(text if len(text) <= 60 else f"{text[:60]}...", ensure_ascii=False)
