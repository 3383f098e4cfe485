"""A message with too many fields is refused before it is parsed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from arena_llm.v1 import generate_pb2, score_pb2
from services.common.errors import InvalidRequest
from services.common.handlers import MAX_FIELDS, check_field_count, parse
from tests.support.scripted import scripted
from tests.support.wire import details, failure, request, score_request, stub

GENERATE = generate_pb2.GenerateRequest
SCORE = score_pb2.ScoreRequest

#: By its path, a function that fills a repeated field of a request.
FILL: dict[str, Callable[[Any], object]] = {
    "labels": lambda r: r.labels.update({str(n): "" for n in range(MAX_FIELDS)}),
    "conversation.messages": lambda r: r.conversation.messages.extend(
        [generate_pb2.Message(content="hi" * 9)] * MAX_FIELDS
    ),
    "config.stop": lambda r: r.config.stop.extend(["a long stop string"] * (MAX_FIELDS + 1)),
    "constraint.choices.values": lambda r: r.constraint.choices.values.extend(
        ["a long choice"] * (MAX_FIELDS + 1)
    ),
    "provider_options.fields": lambda r: r.provider_options.update(
        {str(n): n for n in range(MAX_FIELDS)}
    ),
    "continuations": lambda r: r.continuations.extend(["a long one"] * (MAX_FIELDS + 1)),
}


def repeated(message: Any, path: str = "") -> set[str]:
    """Return the paths of all repeated fields that are not inside another."""
    paths = set()
    for field in message.fields:
        here = f"{path}{field.name}"
        if field.label == FieldDescriptor.LABEL_REPEATED:
            paths.add(here)
        elif field.message_type:
            paths |= repeated(field.message_type, f"{here}.")
    return paths


CASES = [(kind, path) for kind in (GENERATE, SCORE) for path in sorted(repeated(kind.DESCRIPTOR))]


@pytest.mark.parametrize(("kind", "path"), CASES)
def test_repeated_fields_are_counted_before_they_are_parsed(kind: Any, path: str) -> None:
    message = kind(model="hf_x")
    FILL[path](message)
    # The last byte does not parse, so an error about the count came before the parser.
    data = message.SerializeToString() + b"\xff"
    with pytest.raises(InvalidRequest, match=str(MAX_FIELDS)) as caught:
        parse(kind, data)
    assert caught.value.field == path.partition(".")[0]


@pytest.mark.parametrize(
    "unit", [b"\xf8\x01\x00", b"\xf9\x01" + bytes(8), b"\xfd\x01" + bytes(4), b"\xfb\x01\xfc\x01"]
)
def test_unknown_fields_count_too(unit: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the request holds too much"):
        parse(GENERATE, unit * 200_000)


def test_nested_fields_count_too() -> None:
    """provider_options of nested lists, each with a length that claims the whole rest."""
    data = b""
    for _ in range(20):
        data = b"\x32\xff\xff\xff\x7f\x0a\xff\xff\xff\x7f" + data
    data = b"\x42\xff\xff\xff\x7f\x0a\xff\xff\xff\x7f\x12\xff\xff\xff\x7f" + data * 5000
    with pytest.raises(InvalidRequest, match="provider_options holds too much"):
        parse(GENERATE, data)


def test_the_largest_request_that_is_allowed_passes() -> None:
    role = generate_pb2.ROLE_USER
    message = generate_pb2.Message(role=role, content="x" * 1000)
    asked = GENERATE(
        model="hf_x", conversation=generate_pb2.Conversation(messages=[message] * 4096)
    )
    asked.constraint.choices.values.extend(f"{n:0100}" for n in range(4096))
    asked.labels.update({f"{n:0128}": "x" * 128 for n in range(16)})
    assert parse(GENERATE, asked.SerializeToString()) == asked


def test_bytes_that_do_not_parse_are_left_to_the_parser() -> None:
    """The count sees the fields that the parser would see, and raises no error of its own."""
    chance = random.Random(1)  # noqa: S311 - reproducible
    message = GENERATE(model="hf_x", prompt="x" * 300_000)
    message.labels.update({str(n): "value" for n in range(99)})
    message.provider_options.update({"a": [{"b": 1.5}, None, True, "text"]})
    whole = message.SerializeToString()
    assert parse(GENERATE, whole) == message
    for _ in range(300):
        broken = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            broken[chance.choice([*range(16), *range(300_000, len(whole))])] = chance.randrange(256)
        del broken[chance.choice([len(whole), chance.randrange(len(whole))]) :]
        check_field_count(GENERATE.DESCRIPTOR, bytes(broken))


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate", "Score"])
async def test_100_000_labels_are_refused_by_name(rpc: str) -> None:
    asked = score_request() if rpc == "Score" else request()
    asked.labels.update({f"{n:07}": "" for n in range(100_000)})
    async with scripted() as (backend, server), stub(server.address) as llm:
        error = await failure(getattr(llm, rpc)(asked))
        assert error.code().name == "INVALID_ARGUMENT"
        assert details(error)["BadRequest"].field_violations[0].field == "labels"
        assert backend.history == []
        assert (await llm.Generate(request())).text == "ok"
