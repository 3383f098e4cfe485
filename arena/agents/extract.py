"""Finds the action that a reply names as its choice, by stated rules.

Small deviations from the requested format are accepted, a guess never is: an action is only
taken from a place that states a choice, and only if the reply states a single one. The first rule
that applies decides:

1. Reasoning in tags, such as <think>...</think>, is left out. A reply that ends inside of it has
   no choice.
2. object: JSON objects with the key "action", or else "move", "choice" or "answer". They may be
   in a code fence or among other text, and may have line breaks in strings, trailing commas,
   single quotes, and missing or additional keys.
3. fragment: "action": "..." inside an object that is not complete or not valid.
4. label: a line such as "Action: e4" or "**Final answer:** e4", or \\boxed{e4}. A label with the
   word final takes precedence.
5. bare: the whole reply is an action.

If the text behind the choice takes it back ("wait", "instead") or names another legal action, or if
several places state different actions, the reply has no choice. Prose is never searched for
actions.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

#: Keys that name the action; the first one that an object has counts.
_KEYS = ("action", "move", "choice", "answer")

_THINKING = re.compile(
    r"^.*(?:</(?:think|thinking|thought|reasoning)>|<\|channel\|>final<\|message\|>)",
    re.DOTALL | re.IGNORECASE,
)
_OPEN_THINKING = re.compile(r"<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_FRAGMENT = re.compile(r"""["']action["']\s*:\s*"((?:[^"\\\n]|\\.)*)\"""", re.IGNORECASE)
_LABEL = re.compile(
    r"^[\s>*_#`-]*(?P<final>final\s+)?(?:my\s+|the\s+|chosen\s+|selected\s+|next\s+|best\s+)*"
    r"(?P<final2>final\s+)?(?:action|move|answer|choice)(?:\s+is)?[*_`]*\s*[:=][*_\s]*(?P<value>.+)$",
    re.IGNORECASE | re.MULTILINE,
)
#: Anything behind a choice that may be another one.
_LATER = re.compile(
    r"(?:(?:action|move|answer|choice)[\"'*_`]*(?:\s+is)?\s*[:=]|\\boxed\{)[*_`\s]*(.*)",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?(?P<value>[^{}]+)\}")
_FENCE = re.compile(r"```[a-z]*\n?|\n?```", re.IGNORECASE)
_TAKES_BACK = re.compile(
    r"\b(?:wait|actually|instead|rather|correction|mistake|sorry|hold on|second thought|"
    r"scratch that|not (?:legal|allowed|possible|valid)|illegal|invalid|no,|change my)",
    re.IGNORECASE,
)


class Choice(NamedTuple):
    """What a reply states as its choice.

    value: the text of the action. rule: the name of the rule that found it. reasoning: the
    reasoning beside it. after: the text behind it.
    """

    value: str
    rule: str
    reasoning: str = ""
    after: str = ""


class NoChoice(ValueError):
    """A reply states no choice, or several. The message can be shown to the player."""


def find_choice(text: str) -> Choice:
    """Return the choice that a reply states. Raises NoChoice."""
    body = _THINKING.sub("", text)
    thought = bool(len(body) < len(text))
    if _OPEN_THINKING.search(body):
        raise NoChoice("the reply ends before its reasoning has ended")
    for find in (_find_objects, _find_fragments, _find_labels, _find_bare):
        choices = list(find(body))
        if not choices:
            continue
        last = choices[-1]
        values = {choice.value.strip() for choice in choices}
        values |= {_strip(value) for value in _LATER.findall(last.after)}
        if len(values) > 1:
            raise NoChoice("the reply names several actions")
        if _TAKES_BACK.search(last.after):
            raise NoChoice("the text after the action seems to take it back")
        return last._replace(rule=f"thinking+{last.rule}") if thought else last
    raise NoChoice("the reply does not name an action")


def _find_objects(body: str) -> Iterator[Choice]:
    for value, end in _read_objects(body):
        for found in _walk(value):
            if (choice := _choice_of(found)) is not None:
                yield choice._replace(after=body[end:])


def _choice_of(value: dict[str, Any]) -> Choice | None:
    """The choice of an object; None if it has none, or repeats the format of the prompt."""
    by_name: dict[str, list[Any]] = {}
    for key, item in value.items():
        by_name.setdefault(key.strip().lower(), []).append(item)
    for key in _KEYS:
        if key in by_name:
            texts = {text for item in by_name[key] if (text := _to_text(item)) is not None}
            if len(texts) > 1:
                raise NoChoice("the reply names several actions")
            if not texts or next(iter(texts)).startswith("<"):
                return None
            reasoning = by_name.get("reasoning", [""])[0]
            rule = "object" if key == "action" else f"object({key})"
            return Choice(texts.pop(), rule, reasoning if isinstance(reasoning, str) else "")
    return None


def _to_text(item: Any) -> str | None:
    """The text of an action: a string or number, perhaps in a list of its own."""
    if isinstance(item, _Pairs):
        return None
    if isinstance(item, list):
        return _to_text(item[0]) if len(item) == 1 else None
    if isinstance(item, bool) or not isinstance(item, str | int | float):
        return None
    return str(item)


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    """An object and all objects inside of it."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            yield from _walk(item)


class _Pairs(dict[str, Any]):
    """An object. A repeated key has all of its values, so that none is preferred in silence."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        for key, value in pairs:
            if key in self and key.strip().lower() in _KEYS and self[key] != value:
                raise NoChoice("the reply names several actions")
            self[key] = value


#: Numbers stay texts: 1.0 is not the action 1, and a long number costs no time.
_DECODER = json.JSONDecoder(
    strict=False, object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=str
)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
#: Objects after this many are not read.
_MAX_OBJECTS = 50


def _read_objects(body: str) -> Iterator[tuple[Any, int]]:
    """The objects in a text that are not inside of another one, and where each ends."""
    place = 0
    for _ in range(_MAX_OBJECTS):
        start = body.find("{", place)
        if start < 0:
            return
        try:
            value, end = _DECODER.raw_decode(body, start)
        except RecursionError:
            return
        except json.JSONDecodeError:
            end = _find_end(body, start)
            if (value := _repair(body[start:end])) is None:
                place = start + 1
                continue
        yield value, end
        place = end


def _find_end(body: str, start: int) -> int:
    """The end of an object by its braces; quotes may be single or double."""
    depth, quote, place = 0, "", start
    while place < len(body):
        sign = body[place]
        if quote:
            if sign == "\\":
                place += 1
            elif sign == quote:
                quote = ""
        elif sign == '"' or (sign == "'" and body[place - 1] in " {[:,\n"):
            quote = sign
        elif sign in "{}":
            depth += 1 if sign == "{" else -1
            if depth == 0:
                return place + 1
        place += 1
    return len(body)


def _repair(text: str) -> Any:
    """Read an object with trailing commas or single quotes; None if that does not help."""
    try:
        return _DECODER.decode(_TRAILING_COMMA.sub(r"\1", text))
    except (json.JSONDecodeError, RecursionError):
        pass
    try:
        tree = ast.parse(text, mode="eval").body
        if not isinstance(tree, ast.Dict):
            return None
        pairs = [(ast.literal_eval(k), ast.literal_eval(v)) for k, v in _items(tree)]
        return _Pairs([(key, value) for key, value in pairs if isinstance(key, str)])
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        if isinstance(error, NoChoice):
            raise
        return None


def _items(tree: ast.Dict) -> Iterator[tuple[ast.expr, ast.expr]]:
    for key, value in zip(tree.keys, tree.values, strict=True):
        if key is not None:
            yield key, value


def _find_fragments(body: str) -> Iterator[Choice]:
    for match in _FRAGMENT.finditer(body):
        try:
            value = json.loads(f'"{match[1]}"', strict=False)
        except json.JSONDecodeError:
            value = match[1]
        if not value.startswith("<"):
            yield Choice(value, "fragment", after=body[match.end() :])


def _find_labels(body: str) -> Iterator[Choice]:
    matches = [*_LABEL.finditer(body), *_BOXED.finditer(body)]
    final = [m for m in matches if m.re is _BOXED or m["final"] or m["final2"]]
    for match in sorted(final or matches, key=lambda m: m.start()):
        boxed = _BOXED.search(match["value"])
        value = boxed["value"] if boxed else match["value"]
        yield Choice(_strip(value), "label", body[: match.start()].strip(), body[match.end() :])


#: Longer texts are not the name of an action.
_MAX_BARE = 200


def _find_bare(body: str) -> Iterator[Choice]:
    text = _strip(_FENCE.sub("", body))
    if text and "\n" not in text and len(text) <= _MAX_BARE and not text.startswith("{"):
        yield Choice(text, "bare")


#: Pairs of signs around a value, opening and closing.
_WRAPPERS = (
    ("**", "**"),
    ("__", "__"),
    *((sign, sign) for sign in "`\"'*"),
    *("\u201c\u201d", "\u2018\u2019"),
)


def _strip(text: str) -> str:
    """A value without emphasis, quotes and a full stop around it."""
    before = ""
    text = text.strip()
    while text != before:
        before = text
        for opening, closing in _WRAPPERS:
            is_wrapped = text.startswith(opening) and text.endswith(closing)
            if is_wrapped and len(text) > len(opening) + len(closing):
                text = text[len(opening) : -len(closing)].strip()
        if text.count("**") == 1:  # the label was inside of the emphasis as well
            text = text.removeprefix("**").removesuffix("**").strip()
        text = text.removesuffix(".") or text
    return text


def names_another(text: str, own: str, names: Sequence[str]) -> bool:
    """Whether a text contains another one of these names as a word of its own."""
    return any(
        re.search(rf"(?<![\w(]){re.escape(name)}(?![\w)])", text) for name in names if name != own
    )
