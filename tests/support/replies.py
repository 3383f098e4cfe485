"""Messages that a model's reply may have: random ones, the same in each run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from arena_llm.types import (
    Completion,
    FinishReason,
    Message,
    Part,
    Reasoning,
    ReasoningForm,
    Refusal,
    Text,
    ToolCall,
)

TEXTS = ("ok", " ", "\n", "1. e4\n", "😀", "a\u200bb", "\x00", '{"a": 1}', "x" * 5000)
ARGUMENTS = ("", "{}", '{"to": "e4"}', '{"to": "e', "[1]", "7", "null", '{"a": NaN}', "e4", "{" * 9)
NAMES = ("move", "functions.move", "mo ve", "日本", "m" * 300)

_DICE = random.Random(7)  # noqa: S311 - not for security
_KINDS: tuple[Callable[[str], Part], ...] = (
    lambda id: Text(_DICE.choice(TEXTS)),
    lambda id: Reasoning(_DICE.choice(TEXTS), ReasoningForm.RAW),
    lambda id: Refusal(_DICE.choice(TEXTS)),
    lambda id: ToolCall(id, _DICE.choice(NAMES), _DICE.choice(ARGUMENTS)),
)


def list_messages(count: int) -> Iterator[Message]:
    """Yield the empty message, one of 1,000 parts, and `count` random ones."""
    yield Message("assistant", ())
    yield Message("assistant", [Text("a"), Reasoning("b")] * 500)
    for _ in range(count):
        size = _DICE.randrange(5)
        yield Message("assistant", [_DICE.choice(_KINDS)(f"call_{n}") for n in range(size)])


def list_completions(count: int) -> Iterator[Completion]:
    """The same as completions, with each reason to end."""
    for number, message in enumerate(list_messages(count)):
        reasons = list(FinishReason)
        yield Completion(message, reasons[number % len(reasons)])
