"""Grammars of replies in which tool calls must fit their schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from typing import Any

#: Part of a JSON schema: the JSON has no white space that a model could write without end.
_ONE_LINE = {"x-guidance": {"whitespace_flexible": False}}


def write_calls_grammar(
    calls: Sequence[tuple[str, str, Mapping[str, Any], str]], added: Collection[str]
) -> str:
    """A Lark grammar of any text, in which a call that begins must fit.

    calls: what begins a call, the rest before its arguments, their schema, and what ends it.
    added: the added tokens of the tokenizer. llguidance reads one as <...> outside of strings.
    """
    tokens = {token for token in added if re.fullmatch(r"<[^<>\s]+>", token)}
    split = re.compile("|".join(map(re.escape, tokens)) or "(?!)")

    def quote(text: str) -> str:
        parts = zip_longest(split.split(text), split.findall(text), fillvalue="")
        return " ".join(
            written
            for plain, token in parts
            for written in (json.dumps(plain) if plain else "", token)
            if written
        )

    rules = []
    for number, (trigger, begin, schema, end) in enumerate(calls):
        arguments = json.dumps({**schema, **_ONE_LINE})
        # Text is read up to the first trigger.
        opening = f"TEXT {trigger}" if trigger in tokens else f"open_{number}"
        if trigger not in tokens:
            rules.append(f"open_{number}[lazy]: TEXT {quote(trigger)}")
        rules.append(f"call_{number}: {opening} {quote(begin)} %json {arguments} {quote(end)}")
    options = " | ".join(f"call_{number}" for number in range(len(calls)))
    head = ["%llguidance {}", f"start: ({options})* TEXT", r"TEXT: /(.|\n)*/"]
    return "\n".join([*head, *rules, ""])
