"""The parts of a message from the pieces of a stream, however a provider numbers its tool calls."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator

import pytest

from arena_llm.types import Completion, Delta, FinishReason, Message, Part, Text, ToolCall
from services.common.errors import UnreadableAnswer
from services.common.hosted.parts import CallPiece, PartsBuilder
from services.common.streaming import PartNumbering

Call = tuple[str, str, str]  # id, name, arguments


def cut(dice: random.Random, text: str) -> list[str]:
    """A text in pieces of random length."""
    pieces = []
    while text:
        size = dice.randrange(1, 8)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def make_calls(dice: random.Random) -> list[Call]:
    """Calls of at least one tool; often the same one twice."""
    calls = []
    for number in range(dice.randrange(1, 4)):
        arguments = json.dumps({"to": dice.choice(["e4", "d5", "{\\}"]), "n": dice.random()})
        calls.append((f"id_{number}", dice.choice(["move", "pass"]), arguments))
    return calls


# --- how providers number ---------------------------------------------------------------


def usual(index: int, piece: CallPiece) -> CallPiece:
    return piece


def from_one(index: int, piece: CallPiece) -> CallPiece:
    return CallPiece(index + 1, piece.id, piece.name, piece.arguments)


def with_gaps(index: int, piece: CallPiece) -> CallPiece:
    return CallPiece(7 * index + 3, piece.id, piece.name, piece.arguments)


def without_index(index: int, piece: CallPiece) -> CallPiece:
    return CallPiece(None, piece.id, piece.name, piece.arguments)


def always_zero(index: int, piece: CallPiece) -> CallPiece:
    return CallPiece(0, piece.id, piece.name, piece.arguments)


def id_everywhere(index: int, piece: CallPiece) -> CallPiece:
    return CallPiece(0, f"id_{index}", piece.name, piece.arguments)


def id_and_name_everywhere(calls: list[Call]) -> Callable[[int, CallPiece], CallPiece]:
    return lambda index, piece: CallPiece(None, calls[index][0], calls[index][1], piece.arguments)


def without_id(index: int, piece: CallPiece) -> CallPiece:
    return CallPiece(index, "", piece.name, piece.arguments)


def without_anything(index: int, piece: CallPiece) -> CallPiece:
    """Only the name shows where a call begins."""
    return CallPiece(None, "", piece.name, piece.arguments)


SEQUENTIAL = [usual, from_one, with_gaps, without_index, always_zero, id_everywhere]
SEQUENTIAL += [without_id, without_anything]
#: Numberings that tell alternating pieces apart.
PARALLEL = [usual, from_one, with_gaps, id_everywhere, without_id]


def pieces_of(dice: random.Random, calls: list[Call], index: int) -> list[CallPiece]:
    id, name, arguments = calls[index]
    first = CallPiece(index, id, name, "")
    return [first, *(CallPiece(index, "", "", text) for text in cut(dice, arguments))]


def build(pieces: Iterator[tuple[int, CallPiece]]) -> tuple[tuple[Part, ...], list[Delta]]:
    """Build the parts. The deltas must add up to them, in the servicer's own numbering."""
    builder, numbering = PartsBuilder(), PartNumbering()
    deltas: list[Delta] = []
    for _, piece in pieces:
        builder.add_call(piece)
        deltas += builder.take()
    deltas += builder.finish()
    for delta in deltas:
        list(numbering.number(delta))
    parts = builder.parts("origin", {})
    numbering.check(_completion(parts))
    return parts, deltas


def _completion(parts: tuple[Part, ...]) -> Completion:
    return Completion(Message("assistant", parts), FinishReason.TOOL_CALLS)


def check(parts: tuple[Part, ...], deltas: list[Delta], calls: list[Call], ids: bool) -> None:
    found = [part for part in parts if isinstance(part, ToolCall)]
    assert [(call.name, call.arguments) for call in found] == [call[1:] for call in calls]
    if ids:
        assert [call.id for call in found] == [call[0] for call in calls]
    assert all(call.id for call in found)
    assert len({call.id for call in found}) == len(calls)
    named = [delta.tool_call for delta in deltas if delta.tool_call and delta.tool_call.id]
    assert [(call.id, call.name) for call in named] == [(call.id, call.name) for call in found]


@pytest.mark.parametrize("number", SEQUENTIAL, ids=lambda f: f.__name__)
@pytest.mark.parametrize("seed", range(60))
def test_calls_one_after_the_other(
    number: Callable[[int, CallPiece], CallPiece], seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - not for security
    calls = make_calls(dice)
    order = [(i, piece) for i in range(len(calls)) for piece in pieces_of(dice, calls, i)]
    parts, deltas = build((i, number(i, piece)) for i, piece in order)
    check(parts, deltas, calls, ids=number not in (without_id, without_anything))


@pytest.mark.parametrize("seed", range(60))
def test_id_and_name_in_every_piece(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - not for security
    calls = make_calls(dice)
    number = id_and_name_everywhere(calls)
    order = [(i, piece) for i in range(len(calls)) for piece in pieces_of(dice, calls, i)]
    parts, deltas = build((i, number(i, piece)) for i, piece in order)
    check(parts, deltas, calls, ids=True)


@pytest.mark.parametrize("number", PARALLEL, ids=lambda f: f.__name__)
@pytest.mark.parametrize("seed", range(60))
def test_calls_that_alternate(number: Callable[[int, CallPiece], CallPiece], seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - not for security
    calls = make_calls(dice)
    queues = [pieces_of(dice, calls, i) for i in range(len(calls))]
    # Each call begins in order; then any call may go on.
    order = [(i, queue.pop(0)) for i, queue in enumerate(queues)]
    while any(queues):
        i = dice.choice([i for i, queue in enumerate(queues) if queue])
        order.append((i, queues[i].pop(0)))
    parts, deltas = build((i, number(i, piece)) for i, piece in order)
    check(parts, deltas, calls, ids=number is not without_id)


@pytest.mark.parametrize("index", [None, 0])
def test_whole_calls_in_a_stream(index: int | None) -> None:
    """Some servers send each call whole, without an id, and all with the same index."""
    arguments = ['{"a": 1}', '{"a": 1}', "{}"]
    pieces = [(n, CallPiece(index, "", "move", text)) for n, text in enumerate(arguments)]
    parts, deltas = build(iter(pieces))
    check(parts, deltas, [("", "move", text) for text in arguments], ids=False)


def test_an_id_that_comes_late() -> None:
    pieces = [CallPiece(0, "", "", ""), CallPiece(0, "", "move", "{"), CallPiece(0, "x", "", "}")]
    parts, _ = build(enumerate(pieces))
    (call,) = parts
    assert isinstance(call, ToolCall)
    assert (call.name, call.arguments) == ("move", "{}")


def test_a_repeated_id_of_another_call_is_replaced() -> None:
    pieces = [CallPiece(0, "x", "move", '{"a": 1}'), CallPiece(1, "x", "move", '{"a": 2}')]
    parts, _ = build(enumerate(pieces))
    first, second = parts
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert first.id == "x"
    assert second.id != "x"


def test_a_call_without_a_name_is_unreadable() -> None:
    builder = PartsBuilder()
    builder.add_call(CallPiece(0, "x", "", "{}"))
    assert builder.take() == []
    with pytest.raises(UnreadableAnswer):
        builder.finish()


def test_kinds_that_alternate_become_parts_in_order() -> None:
    dice = random.Random(7)  # noqa: S311 - not for security
    for _ in range(200):
        kinds = [dice.choice(["text", "reasoning", "refusal", "call"]) for _ in range(8)]
        builder, numbering = PartsBuilder(), PartNumbering()
        deltas: list[Delta] = []
        for n, kind in enumerate(kinds):
            if kind == "call":
                builder.add_call(CallPiece(n, f"id_{n}", "move", "{}"))
            else:
                builder.add_text(kind, f"{n}")
            deltas += builder.take()
        deltas += builder.finish()
        for delta in deltas:
            list(numbering.number(delta))
        parts = builder.parts("origin", {})
        numbering.check(_completion(parts))
        names = {"call": "tool_call"}
        expected = [
            names.get(kind, kind)
            for kind, group in itertools.groupby(kinds)
            for _ in (group if kind == "call" else [0])
        ]
        assert [part.kind for part in parts] == expected


def test_a_text_is_sent_when_it_comes() -> None:
    builder = PartsBuilder()
    builder.add_text("text", "a")
    assert builder.take() == [Delta("a")]
    builder.add_call(CallPiece(0, "x", "move", "{"))
    (delta,) = builder.take()
    assert delta.tool_call is not None
    assert (delta.tool_call.id, delta.tool_call.arguments) == ("x", "{")
    builder.add_text("text", "b")
    assert builder.take() == []  # the call may go on
    builder.add_call(CallPiece(0, "", "", "}"))
    (delta,) = builder.take()
    assert delta.tool_call is not None
    assert (delta.tool_call.id, delta.tool_call.arguments) == ("", "}")
    assert builder.finish() == [Delta("b")]
    assert builder.parts("", {})[2] == Text("b")
