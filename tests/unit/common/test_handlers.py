"""A message with too many fields is refused before it is parsed."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from arena_llm.v1 import content_pb2, generate_pb2, score_pb2
from services.common.errors import InvalidRequest
from services.common.handlers import MAX_FIELDS, parse, scan
from tests.support.scripted import scripted
from tests.support.wire import (
    count_request,
    details,
    failure,
    reason,
    request,
    score_request,
    stub,
)

GENERATE = generate_pb2.GenerateRequest
SCORE = score_pb2.ScoreRequest

WORDS = ["a long string"] * (MAX_FIELDS + 1)
TALK = content_pb2.Message(parts=[content_pb2.Part(text="hi" * 9)])

#: By its path, a function that fills a repeated field of a request.
FILL: dict[str, Callable[[Any], object]] = {
    "labels": lambda r: r.labels.update({str(n): "" for n in range(MAX_FIELDS)}),
    "conversation.messages": lambda r: r.conversation.messages.extend([TALK] * MAX_FIELDS),
    "config.stop": lambda r: r.config.stop.extend(WORDS),
    "config.logit_bias": lambda r: r.config.logit_bias.update(dict.fromkeys(range(MAX_FIELDS), 1)),
    "constraint.choices.values": lambda r: r.constraint.choices.values.extend(WORDS),
    "routing.providers": lambda r: r.routing.providers.extend(WORDS),
    "routing.precisions": lambda r: r.routing.precisions.extend(WORDS),
    "fallback_models.names": lambda r: r.fallback_models.names.extend(WORDS),
    "tools": lambda r: r.tools.extend([content_pb2.Tool(name="move")] * MAX_FIELDS),
    "tool_choice.names": lambda r: r.tool_choice.names.extend(WORDS),
    "continuations": lambda r: r.continuations.extend(
        [score_pb2.Continuation(text="a long one")] * MAX_FIELDS
    ),
}
#: Numbers are packed: however many there are, they are one field.
PACKED = {"config.stop_token_ids", "raw.token_ids.ids", "returns.logprob_token_ids"}


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


CASES = [
    (kind, path)
    for kind in (GENERATE, SCORE)
    for path in sorted(repeated(kind.DESCRIPTOR) - PACKED)
]


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
    """Results of tools in results of tools, each with a length that claims the whole rest."""
    size = b"\xff\xff\xff\x7f"
    data = b"\x1a" + size + b"\x0a" + size + (b"\x12" + size + b"\x2a" + size) * 50_000
    with pytest.raises(InvalidRequest, match="conversation holds too much"):
        parse(GENERATE, data)


def test_the_largest_request_that_is_allowed_passes() -> None:
    message = content_pb2.Message(
        role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text="x" * 1000)]
    )
    asked = GENERATE(model="hf_x", conversation=content_pb2.Conversation(messages=[message] * 4096))
    asked.constraint.choices.values.extend(f"{n:0100}" for n in range(4096))
    asked.labels.update({f"{n:0128}": "x" * 128 for n in range(16)})
    assert parse(GENERATE, asked.SerializeToString()) == asked


def test_bytes_that_do_not_parse_are_left_to_the_parser() -> None:
    """The scan raises nothing but that there are too many fields."""
    chance = random.Random(1)  # noqa: S311 - reproducible
    message = GENERATE(model="hf_x", prompt="x" * 300_000)
    message.labels.update({str(n): "value" for n in range(99)})
    message.tools.add(name="move", cache=content_pb2.CacheHint(ttl_seconds=1))
    whole = message.SerializeToString()
    assert parse(GENERATE, whole) == message
    for _ in range(300):
        broken = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            broken[chance.choice([*range(16), *range(300_000, len(whole))])] = chance.randrange(256)
        del broken[chance.choice([len(whole), chance.randrange(len(whole))]) :]
        with contextlib.suppress(InvalidRequest):  # it may look like many fields
            scan(GENERATE.DESCRIPTOR, bytes(broken))


def test_a_scan_finds_the_fields_that_are_not_inside_others() -> None:
    asked = GENERATE(model="hf_x", session="s", prompt="x" * 100, labels={"a": "b", "c": "d"})
    asked.config.seed = 7
    data = asked.SerializeToString()
    found = scan(GENERATE.DESCRIPTOR, data)
    assert found.unknown == ""
    names = {field.name: field.number for field in GENERATE.DESCRIPTOR.fields}
    assert sorted({number for number, _, _ in found.top}) == sorted(
        names[field.name] for field, _ in asked.ListFields()
    )
    picked = GENERATE.FromString(found.pick(data, {names["model"], names["labels"]}))
    assert picked == GENERATE(model="hf_x", labels={"a": "b", "c": "d"})


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate", "Score", "CountTokens"])
async def test_an_unknown_field_of_a_large_request_is_refused(rpc: str) -> None:
    asked = {"Score": score_request, "CountTokens": count_request}.get(rpc, request)()
    asked.prompt = "x" * 200_000
    extra = b"\xa2\x38\x01x"  # field 900
    async with scripted() as (backend, server), stub(server.address) as llm:
        call = getattr(llm, rpc)
        call._request_serializer = None
        error = await failure(call(asked.SerializeToString() + extra))
        assert reason(error) == "UNKNOWN_FIELD"
        info: Any = details(error)["ErrorInfo"]
        assert info.metadata["field_numbers"] == "900"
    assert backend.history == []


async def test_a_large_request_is_the_same_as_a_small_one() -> None:
    long = "x" * 200_000
    async with scripted() as (backend, server), stub(server.address) as llm:
        asked = request(prompt=long, request_id="r-1", labels={"a": "b"})
        assert not (await llm.Generate(asked)).replayed
        asked.labels.clear()
        assert (await llm.Generate(asked)).replayed
        asked.prompt = "y" * 200_000
        assert reason(await failure(llm.Generate(asked))) == "REQUEST_ID_REUSED"
    assert [sent.input for sent in backend.history] == [long]


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
