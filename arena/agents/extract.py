"""Finds the action that a reply names as its choice, by stated rules.

Small deviations from the requested format are accepted. Nothing is guessed: an action is only
taken from a place that states a choice, and only if the reply states a single one. The first rule
that applies decides:

1. Reasoning in tags, such as <think>...</think>, is left out, and so are the signs that end a
   reply in a chat template. A reply that ends inside its reasoning has no choice.
2. object: JSON objects with the key "action", or else "move", "choice" or "answer". They may be
   in a code fence or among other text, and may have line breaks in strings, trailing commas,
   single or typographic quotes, and missing or additional keys. They may be in a list of one, or
   under a neutral key such as "response", but not under a key such as "opponent". An object in a
   sentence that denies it, or is about an example or the opponent, does not count, nor one that
   rejects its own action by a key such as "status": "rejected" or "legal": false.
3. fragment: "action": "..." inside an object that is not complete or not valid.
4. label: a line such as "Action: e4" or "**Final answer:** e4", \\boxed{e4}, or
   <action>e4</action>. A label with the word final takes precedence.
5. sentence: the whole reply is a sentence such as "I play e4."
6. bare: the whole reply is an action.

A choice may also name a rejected action: "Nf3 (not d4)", "not e4 but d4".

If the text behind the choice takes it back ("wait", "instead") or names another legal action, or if
several places state different actions, the reply has no choice. Prose is never searched for
actions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from arena.agents.context import is_denied, is_no_label, rejects_itself, takes_back
from arena.agents.objects import KEYS, MAX_PLACES, NoChoice, Pairs, read_objects

_NAME = (
    r"(?:\w+:)?(?:think|thinking|thoughts?|reasoning|analysis|reflection|scratchpad|cot|"
    r"chain_of_thoughts?|(?:inner_|internal_)?monologue|inner_thoughts?|deliberation)"
)
_THINKING = re.compile(
    rf"^.*(?:</{_NAME}>|\[/{_NAME}\]|\u25c1/{_NAME}\u25b7|<\|end_of_{_NAME}\|>"
    r"|<\|channel\|>final<\|message\|>)",
    re.DOTALL | re.IGNORECASE,
)
#: The tag may have attributes, be escaped, or be cut off at the end of its line.
_OPEN_THINKING = re.compile(
    rf"(?:<|&lt;){_NAME}(?:\s[^<>\n]*)?(?:>|&gt;|$)|\[{_NAME}\]|\u25c1{_NAME}\u25b7|<\|begin_of_{_NAME}\|>"
    r"|<\|channel\|>\w+<\|message\|>",
    re.IGNORECASE | re.MULTILINE,
)
#: Signs of chat templates: models write them where a server does not remove them.
_TEMPLATE = re.compile(r"<\|[^<>|\s]{1,40}\|>|<\uff5c[^<>]{1,40}\uff5c>|</s>|<eos>|<end_of_turn>")
#: Quotes around the key and the value may be missing or single. The end is known by what follows.
_FRAGMENT = re.compile(
    r"""(?P<before>^|[{,\n])\s{0,40}["']?action["']?\s{0,9}:\s{0,9}"""
    r"""(?:"(?P<double>(?:[^"\\\n]|\\.)*)"|'(?P<single>[^'\n]*)'|(?P<plain>[^\s"',{}\[\]][^"',{}\[\]\n]*))"""
    r"""(?=\s{0,40}(?:[,}\n]|$))""",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^[ \t>*_#`-]*(?P<final>final\s+)?(?:(?:my|your|the|chosen|selected|next|best)\s+)*"
    r"(?P<final2>final\s+)?(?:(?:action|move|answer|choice|decision)(?:\s+is)?"
    r"|I\s+(?:choose|play|pick|select))[*_`]*"
    r"(?:\s{0,9}[:=\uff1a]|(?<=[*_])[ \t]{0,9}\n|[ \t]{1,9}[-\u2013\u2014]\s)[*_\s]*(?P<value>.+)$",
    re.IGNORECASE | re.MULTILINE,
)
#: Anything behind a choice that may be another one.
_LATER = re.compile(
    r"(?:(?:action|move|answer|choice)[\"'*_`]*(?:\s+is)?\s*[:=]|\\boxed\{)[*_`\s]*(.*)",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\{\s*(?:\\\w+\{)?(?P<value>[^{}]+)\}")
_TAG = re.compile(
    r"<(?P<tag>(?:final_?)?(?:action|move|answer|choice))>\s*(?P<value>[^<>\n]+?)\s*</(?P=tag)>",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"(?:I(?:'ll|\u2019ll|\s+will|\s+would\s+like\s+to)?\s+(?:play|choose|pick|select|go\s+with)"
    r"|Let(?:'|\u2019)s\s+play"
    # "I bet.": a single word may be the action itself.
    r"|I(?:'ll|\u2019ll|\s+will)?(?=\s+\w+\W*$)"
    r"|(?:My|The)\s+(?:(?:final|best|next|chosen)\s+)*(?:action|move|answer|choice)\s+is)"
    r"\s+(?P<value>[^\n]+)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```[a-z]*\n?|\n?```", re.IGNORECASE)
#: Neutral keys: an object under one of them counts like an object alone.
_ENVELOPES = frozenset(
    (
        *KEYS, "response", "reply", "result", "output", "json", "data", "message", "content",
        "arguments", "parameters", "args", "input", "function", "tool_call",
    )
)  # fmt: skip


class Choice(NamedTuple):
    """What a reply states as its choice.

    value: the text of the action. rule: the name of the rule that found it. reasoning: the
    reasoning beside it. after: the text behind it.
    """

    value: str
    rule: str
    reasoning: str = ""
    after: str = ""


def find_choice(text: str) -> Choice:
    """Return the choice that a reply states. Raises NoChoice."""
    body = _THINKING.sub("", text)
    thought = bool(len(body) < len(text))
    if _OPEN_THINKING.search(body):
        raise NoChoice("the reply ends before its reasoning has ended")
    body = _unpack(_TEMPLATE.sub("", body))
    for find in (_find_objects, _find_fragments, _find_labels, _find_sentence, _find_bare):
        choices = list(find(body))
        if not choices:
            continue
        last = choices[-1]
        values = {choice.value.strip() for choice in choices}
        values |= {_strip(value) for value in _LATER.findall(last.after)}
        if len(values) > 1:
            raise NoChoice("the reply names several actions")
        if takes_back(last.after):
            raise NoChoice("the text after the action seems to take it back")
        return last._replace(rule=f"thinking+{last.rule}") if thought else last
    raise NoChoice("the reply does not name an action")


def _unpack(body: str) -> str:
    """The text of a reply that is an object written as a JSON string."""
    if body.lstrip().startswith('"{'):
        try:
            value = json.loads(body, strict=False)
        except (json.JSONDecodeError, RecursionError):
            return body
        return str(value)
    return body


def _find_objects(body: str) -> Iterator[Choice]:
    has_choice = is_rejected = False
    for value, start, end in read_objects(body):
        if is_denied(body[:start], body[end:]):
            continue
        for found in _walk(value):
            if (choice := _choice_of(found)) is None:
                continue
            if rejects_itself(found.items()):
                is_rejected = True
                continue
            has_choice = True
            yield choice._replace(after=f"{choice.after}\n{body[end:]}".strip())
    if is_rejected and not has_choice:
        raise NoChoice("the reply rejects its action")


#: "final_action" and "bestMove" are the key of an action; "action_2" is one of several.
_CHOSEN = re.compile(
    r"^(?:final|best|chosen|selected|next|my|corrected|revised)[ _-]?"
    r"(?=(?:action|move|choice|answer)$)"
)
_NUMBERED = re.compile(r"(?:action|move|choice|answer)[ _-]?\d+")


def _choice_of(value: dict[str, Any]) -> Choice | None:
    """The choice of an object; None if it has none, or only repeats the prompt's format."""
    by_name: dict[str, list[Any]] = {}
    others = []
    for key, item in value.items():
        name = _CHOSEN.sub("", key.strip().lower())
        by_name.setdefault(name, []).append(item)
        if _NUMBERED.fullmatch(name):
            others.append(item)
    for key in KEYS:
        if key in by_name:
            texts = {text for item in by_name[key] if (text := _to_text(item)) is not None}
            if len(texts) > 1:
                raise NoChoice("the reply names several actions")
            if not texts or next(iter(texts)).startswith("<"):
                return None
            reasoning = by_name.get("reasoning", [""])[0]
            rule = "object" if key == "action" else f"object({key})"
            others += [item for other in KEYS if other != key for item in by_name.get(other, ())]
            return Choice(
                texts.pop(), rule, reasoning if isinstance(reasoning, str) else "",
                "\n".join(item for item in others if isinstance(item, str)),
            )  # fmt: skip
    return None


def _to_text(item: Any) -> str | None:
    """The text of an action: a string or number, perhaps in a list of one."""
    if isinstance(item, Pairs):
        return None
    if isinstance(item, list):
        return _to_text(item[0]) if len(item) == 1 else None
    if isinstance(item, bool) or not isinstance(item, str | int | float):
        return None
    return str(item)


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    """Yield an object, and those inside of it under neutral keys."""
    if isinstance(value, list):
        for item in value if len(value) == 1 else ():
            yield from _walk(item)
    elif isinstance(value, dict):
        yield value
        for key, item in value.items():
            if key.strip().lower() in _ENVELOPES:
                yield from _walk(item)


#: A key and its value in an object that is not valid.
_PAIR = re.compile(r"""["']?([\w -]{1,40})["']?\s{0,9}:\s{0,9}("[^"\n]*"|'[^'\n]*'|\w+)""")
#: The rest of an object.
_END = re.compile(r"^[^{}\n]*\}")


def _find_fragments(body: str) -> Iterator[Choice]:
    for match in islice(_FRAGMENT.finditer(body), MAX_PLACES):
        if match["double"] is None:
            # Without quotes it is only JSON if there is an object around it.
            value = match["single"] or (match["plain"] or "").strip()
            if "{" not in body[: match.start() + 1] or value in ("null", "true", "false"):
                continue
        else:
            try:
                value = json.loads(f'"{match["double"]}"', strict=False)
            except json.JSONDecodeError:
                value = match["double"]
        brace = body.rfind("{", 0, match.start() + 1)
        is_inner = match["before"] == "{" and "{" in body[: match.start()]
        denied = brace >= 0 and is_denied(body[:brace], _END.sub("", body[match.end() :]))
        pairs = _PAIR.findall(body[max(brace, 0) :].partition("}")[0])
        if rejects_itself((key, value.strip("\"' ")) for key, value in pairs):
            raise NoChoice("the reply rejects its action")
        if value and not value.startswith("<") and not is_inner and not denied:
            yield Choice(value, "fragment", after=body[match.end() :])


def _find_labels(body: str) -> Iterator[Choice]:
    found = [*_LABEL.finditer(body), *_BOXED.finditer(body), *_TAG.finditer(body)]
    matches = [
        match for match in found
        if not is_no_label(body[: match.start()], in_sentence=match.re is not _LABEL)
    ]  # fmt: skip
    if len(matches) > MAX_PLACES:
        raise NoChoice("the reply names several actions")
    final = [m for m in matches if m.re is not _LABEL or m["final"] or m["final2"]]
    for match in sorted(final or matches, key=lambda m: m.start()):
        boxed = _BOXED.search(match["value"])
        value = boxed["value"] if boxed else match["value"]
        yield Choice(_strip(value), "label", body[: match.start()].strip(), body[match.end() :])


def _find_sentence(body: str) -> Iterator[Choice]:
    if match := _SENTENCE.fullmatch(_strip(_FENCE.sub("", body))):
        yield Choice(_strip(match["value"].removesuffix("!")), "sentence")


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


#: A longer text is not an action, even without the signs around it.
_MAX_WRAPPED = 1000


def _strip(text: str) -> str:
    """A value without emphasis, quotes and a full stop around it."""
    before = ""
    text = text.strip()
    while text != before and len(text) <= _MAX_WRAPPED:
        before = text
        for opening, closing in _WRAPPERS:
            is_wrapped = text.startswith(opening) and text.endswith(closing)
            if is_wrapped and len(text) > len(opening) + len(closing):
                text = text[len(opening) : -len(closing)].strip()
        if text.count("**") == 1:  # the emphasis began before the label
            text = text.removeprefix("**").removesuffix("**").strip()
        text = text.removesuffix(".") or text
    return text


def names_another(text: str, own: str, names: Sequence[str]) -> bool:
    """Whether a text contains another one of these names as a word of its own."""
    return any(
        re.search(rf"(?<![\w(]){re.escape(name)}(?![\w)])", text) for name in names if name != own
    )
