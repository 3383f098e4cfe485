"""Reads a model's reply as an action: strictly, or by the stated rules of extract.py.

Both readers read every reply. What a player plays is decided by the reader of its settings; the
other one's verdict is recorded too, because playing well and keeping a format are two measures.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from arena.agents.base import AnswerStatus
from arena.agents.extract import Choice, find_choice, names_another
from arena.agents.objects import NoChoice
from arena.games.game import LegalAction

#: Must change whenever a reply is read differently: it is part of an episode's key.
READER_VERSION = 5

#: A longer reply is rejected without being parsed.
MAX_CHARACTERS = 100_000

_FIELDS = {"reasoning", "action"}


class ParsedReply(NamedTuple):
    """What a reply says; the first fields are those of Answer.

    rule: how the action was found: "strict", or the name of the rule of extract.py and, after
    a "+", how its text was matched with a legal action. Empty if there is no choice.
    """

    status: AnswerStatus
    action: int | None = None
    problem: str = ""
    reasoning: str = ""
    rule: str = ""


def describe_reading(strict: ParsedReply, parsed: ParsedReply) -> str:
    """How a reply was read: the rule that found the action, and the strict reader's verdict.

    "strict" if the reply has exactly the requested format; "object+spelling, strict: illegal" if a
    lenient rule found the action; "none, strict: unparseable" if no rule did.
    """
    if strict.status is AnswerStatus.OK:
        return "strict"
    return f"{parsed.rule or 'none'}, strict: {strict.status}"


class Names(NamedTuple):
    """How the legal actions of a turn may be called.

    legal: OpenSpiel's names. aliases: other usual names of each. notes: the prompt's explanation
    of each; "" if it has none. case_matters, ornaments: see GameText.
    """

    legal: Sequence[LegalAction]
    aliases: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    case_matters: bool = False
    ornaments: str = ""


def read_leniently(text: str, names: Names) -> ParsedReply:
    """Find the action that a reply names as its choice. Never raises."""
    if len(text) > MAX_CHARACTERS:
        return _unparseable(f"the reply is longer than {MAX_CHARACTERS} characters")
    if not text.strip():
        return _unparseable("the reply is empty")
    try:
        choice = find_choice(text)
    except NoChoice as error:
        return _unparseable(str(error))
    except RecursionError:
        return _unparseable("the reply is nested too deeply")
    reasoning = choice.reasoning.encode(errors="replace").decode()
    found = match_action(choice.value, names) or _match_contrast(choice.value, names)
    if found is None:
        if choice.rule.endswith(("bare", "sentence")) and _is_sentence(choice.value, names):
            return _unparseable("the reply does not name an action")
        problem = f"{_shorten(choice.value)} is not a legal action"
        return ParsedReply(AnswerStatus.ILLEGAL, problem=problem, reasoning=reasoning)
    action, how = found
    if _changes_mind(choice, action, names):
        return _unparseable("the text after the action names another action")
    rule = f"{choice.rule}+{how}" if how else choice.rule
    return ParsedReply(AnswerStatus.OK, action.action, reasoning=reasoning, rule=rule)


def _is_sentence(text: str, names: Names) -> bool:
    """Whether a text has more words than any legal action: it does not try to name one."""
    return len(text.split()) > max((len(action.text.split()) for action in names.legal), default=1)


def _changes_mind(choice: Choice, action: LegalAction, names: Names) -> bool:
    texts = [legal.text for legal in names.legal]
    return bool(choice.after.strip()) and names_another(choice.after, action.text, texts)


def _unparseable(problem: str) -> ParsedReply:
    return ParsedReply(AnswerStatus.UNPARSEABLE, problem=problem)


_NOT = r"(?:not|instead\s+of|rather\s+than|over)"
#: A value that names the chosen action and a rejected one.
_CONTRASTS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?P<chosen>.+?)\s*\(\s*(?:and\s+)?{_NOT}\s+(?P<other>.+?)\s*\)",
        rf"(?P<chosen>.+?)[\s,;\u2013\u2014-]+(?:(?:and|but)\s+)?{_NOT}\s+(?P<other>.+)",
        r"not\s+(?P<other>.+?),?\s+but\s+(?:rather\s+)?(?P<chosen>.+)",
    )
]
#: Characters of such a value.
_MAX_CONTRAST = 200


def _match_contrast(value: str, names: Names) -> tuple[LegalAction, str] | None:
    """The chosen action of a value such as "Nf3 (not d4)" or "not e4 but d4".

    Both must be legal actions, and different ones: "not sure" is not a contrast.
    """
    if len(value) > _MAX_CONTRAST:
        return None
    for pattern in _CONTRASTS:
        if match := pattern.fullmatch(_AROUND.sub("", value)):
            chosen, other = (match_action(match[name], names) for name in ("chosen", "other"))
            if chosen and other and chosen[0] != other[0]:
                return chosen[0], "contrast"
    return None


_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))  # noqa: RUF001 - these are meant
_AROUND = re.compile(r"^[\s\"'`*]+|[\s\"'`*]+$")
_NOTED = re.compile(r"\s*\((?:here: )?(.*)\)\s*")


def match_action(value: str, names: Names) -> tuple[LegalAction, str] | None:
    """The legal action with this name, and how it was matched; "" if exactly.

    spaces: after removing spaces and quotes around it. spelling: with another case, spaces,
    dashes, ornaments or a full stop. alias, note: by an alias, or by the prompt's explanation. Each
    must name one action only. Actions with the same alias are the same move in the game's own
    notation; the first one is taken.
    """

    def equal(texts: Sequence[str], value: str, form: Callable[[str], str]) -> list[LegalAction]:
        wanted = form(value)
        return [a for a, text in zip(names.legal, texts, strict=True) if form(text) == wanted]

    def spell(text: str) -> str:
        return _spell(text, names)

    texts = [action.text for action in names.legal]
    trimmed = _AROUND.sub("", value)
    for how, form, given in (("", str, value), ("spaces", str.strip, trimmed)):
        if found := equal(texts, given, form):
            return (found[0], how) if len(found) == 1 else None
    if found := equal(texts, trimmed, spell):
        return (found[0], "spelling") if len(found) == 1 else None
    wanted = spell(trimmed)
    for action, aliases in zip(names.legal, names.aliases, strict=False):
        if wanted and wanted in map(spell, aliases):
            return action, "alias"
    notes = [note or "\0" for note in names.notes] or ["\0"] * len(texts)
    for action, note in zip(names.legal, notes, strict=True):
        if trimmed.startswith(action.text) and (
            match := _NOTED.fullmatch(trimmed[len(action.text) :])
        ):
            return (action, "note") if spell(match[1]) == spell(note) else None
    found = equal(notes, trimmed, spell)
    return (found[0], "note") if len(found) == 1 else None


def _spell(text: str, names: Names) -> str:
    normal = unicodedata.normalize("NFKC", text).translate(_DASHES)
    # Cf: characters that nobody sees, such as a zero-width space.
    text = "".join(
        str(unicodedata.decimal(sign, sign))  # digits of other scripts
        for sign in normal
        if unicodedata.category(sign) != "Cf" and sign > " "
    )
    for ending in (names.ornaments, ".!"):
        text = text.rstrip(ending) or text
    return text if names.case_matters else text.casefold()


def parse_json(text: str, legal: Sequence[LegalAction]) -> ParsedReply:
    """Read {"reasoning": string, "action": string} strictly, without any text around it.

    The action must equal the text of a legal action exactly. Never raises.
    """
    try:
        reasoning, action = _fields(text)
    except ValueError as error:
        return ParsedReply(AnswerStatus.UNPARSEABLE, problem=str(error))
    answer = _match(action, legal)
    return answer._replace(reasoning=reasoning)


def parse_choice(text: str, legal: Sequence[LegalAction]) -> ParsedReply:
    """Read the bare text of an action strictly.

    The text is empty if the backend could not enforce a legal action.
    """
    if not text:
        return ParsedReply(AnswerStatus.UNPARSEABLE, problem="the reply is not a legal action")
    return _match(text, legal)


def _match(text: str, legal: Sequence[LegalAction]) -> ParsedReply:
    for action in legal:
        if action.text == text:
            return ParsedReply(AnswerStatus.OK, action.action, rule="strict")
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
    if value.keys() != _FIELDS:
        keys = ", ".join(map(_shorten, value)) or "none"
        raise ValueError(f'the keys must be "reasoning" and "action", not {keys}')
    for key in _FIELDS:
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
