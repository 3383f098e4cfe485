"""The range of every field, and unknown fields and values. An error names the field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message as ProtoMessage

from arena_llm.v1 import (
    REVISION,
    content_pb2,
    generate_pb2,
    models_pb2,
    score_pb2,
    service_info_pb2,
)
from services.common.errors import BackendError, InvalidRequest, UnknownField
from services.common.unknown import check_known
from services.common.validation import (
    MAX_CHOICES,
    MAX_JSON_DEPTH,
    MAX_LOGPROBS,
    MAX_PATTERN,
    _check_count,
    check_count_tokens,
    check_generate,
    check_score,
)
from tests.support.scripted import scripted
from tests.support.wire import count_request, details, failure, request, score_request, stub

Change = Callable[[Any], object]


def config(name: str, value: float) -> Change:
    return lambda r: setattr(r.config, name, value)


def extend(path: str, *values: Any) -> Change:
    """Append values to a repeated field, such as "config.stop"."""

    def change(r: Any) -> None:
        *outer, name = path.split(".")
        for part in outer:
            r = getattr(r, part)
            r.SetInParent()
        getattr(r, name).extend(values)

    return change


def put(path: str, value: Any) -> Change:
    """Set a field, such as "reasoning.effort"."""

    def change(r: Any) -> None:
        *outer, name = path.split(".")
        for part in outer:
            r = getattr(r, part)
            r.SetInParent()
        setattr(r, name, value)

    return change


def both(*changes: Change) -> Change:
    return lambda r: [change(r) for change in changes]


def nested(levels: int) -> str:
    """A JSON object of this many levels."""
    return '{"a":' * levels + "1" + "}" * levels


TOOL = content_pb2.Tool(name="move")
SCORED = score_pb2.Continuation(text="a")
TALK = content_pb2.Message(role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text="hi")])

REFUSED: list[tuple[str, Change]] = [
    ("model", lambda r: r.ClearField("model")),
    ("model", put("model", "  ")),
    ("model", put("model", "hf_" + "x" * 300)),
    ("input", lambda r: r.ClearField("prompt")),
    ("prompt", put("prompt", "")),
    ("conversation.messages", lambda r: r.conversation.SetInParent()),
    ("conversation.messages", extend("conversation.messages", *[TALK] * 4097)),
    ("raw", lambda r: r.raw.SetInParent()),
    ("raw", put("raw.text", "")),
    ("raw", lambda r: r.raw.token_ids.SetInParent()),
    ("raw.token_ids", extend("raw.token_ids.ids", 1, -1)),
    ("config.temperature", config("temperature", math.nan)),
    ("config.temperature", config("temperature", -0.1)),
    ("config.temperature", config("temperature", math.inf)),
    ("config.top_p", config("top_p", 0)),
    ("config.top_p", config("top_p", 2)),
    ("config.top_p", config("top_p", math.nan)),
    ("config.top_k", config("top_k", -1)),
    ("config.max_tokens", config("max_tokens", 0)),
    ("config.max_tokens", config("max_tokens", -5)),
    ("config.seed", config("seed", -1)),
    ("config.seed", config("seed", 2**53)),
    ("config.presence_penalty", config("presence_penalty", 2.1)),
    ("config.frequency_penalty", config("frequency_penalty", -2.1)),
    ("config.min_p", config("min_p", 1.1)),
    ("config.repetition_penalty", config("repetition_penalty", 0)),
    ("config.min_tokens", config("min_tokens", -1)),
    ("config.stop", extend("config.stop", "")),
    ("config.stop", extend("config.stop", *"abcdefghijklmnopq")),
    ("config.stop_token_ids", extend("config.stop_token_ids", -1)),
    ("config.stop_token_ids", extend("config.stop_token_ids", *range(65))),
    ("config.logit_bias", lambda r: r.config.logit_bias.update({-1: 0})),
    ("config.logit_bias", lambda r: r.config.logit_bias.update({1: 101})),
    ("config.logit_bias", lambda r: r.config.logit_bias.update({1: math.nan})),
    ("config.logit_bias", lambda r: r.config.logit_bias.update(dict.fromkeys(range(1025), 0))),
    ("constraint", lambda r: r.constraint.SetInParent()),
    ("constraint.choices", lambda r: r.constraint.choices.SetInParent()),
    ("constraint.choices.values[1]", extend("constraint.choices.values", "a", "")),
    ("constraint.choices.values", extend("constraint.choices.values", "a", "b", "a")),
    ("constraint.choices.values", extend("constraint.choices.values", *map(str, range(4097)))),
    ("constraint.json_schema", put("constraint.json_schema.schema", " ")),
    ("constraint.json_schema", put("constraint.json_schema.schema", "x" * (MAX_PATTERN + 1))),
    ("constraint.json_schema.name",
     both(put("constraint.json_schema.schema", "{}"), put("constraint.json_schema.name", "a b"))),
    ("constraint.regex", put("constraint.regex.pattern", "")),
    ("constraint.grammar", put("constraint.grammar.syntax", 1)),
    ("constraint.grammar.syntax", put("constraint.grammar.text", "start: /a/")),
    ("reasoning.effort", put("reasoning.effort", 0)),
    ("reasoning.budget_tokens", put("reasoning.budget_tokens", 0)),
    ("tools", extend("tools", TOOL, TOOL)),
    ("tools", extend("tools", *[content_pb2.Tool(name=str(n)) for n in range(129)])),
    ("tools[0].name", extend("tools", content_pb2.Tool())),
    ("tools[0].name", extend("tools", content_pb2.Tool(name="a b"))),
    ("tools[0].name", extend("tools", content_pb2.Tool(name="a" * 65))),
    ("tools[0].parameters_json_schema",
     extend("tools", content_pb2.Tool(name="a", parameters_json_schema="[]"))),
    ("tool_choice", lambda r: r.tool_choice.SetInParent()),
    ("tool_choice.names[0]", both(extend("tools", TOOL), extend("tool_choice.names", "look"))),
    ("returns.top_logprobs", put("returns.top_logprobs", 21)),
    ("returns.top_logprobs", put("returns.top_logprobs", -1)),
    ("returns.logprob_token_ids", extend("returns.logprob_token_ids", -1)),
    ("returns.logprob_token_ids", extend("returns.logprob_token_ids", *range(129))),
    ("returns.top_logprobs",
     both(put("returns.top_logprobs", 20), config("max_tokens", MAX_LOGPROBS // 20 + 1))),
    ("routing.providers[0]", extend("routing.providers", "")),
    ("routing.providers", extend("routing.providers", *map(str, range(65)))),
    ("routing.precisions[1]", extend("routing.precisions", "bf16", "x" * 129)),
    ("session", put("session", "s" * 129)),
    ("request_id", put("request_id", "a b")),
    ("request_id", put("request_id", "a" * 65)),
    ("labels", lambda r: r.labels.update({str(i): "" for i in range(17)})),
    ("labels", lambda r: r.labels.update({"": "x"})),
    ("labels", lambda r: r.labels.update({"x": "y" * 129})),
    *((name, put(name, text))
      for name in ("provider_options_json", "template_arguments_json")
      for text in ("{", "[]", "1", "{\"a\": NaN}", "{\"a\": -Infinity}", "{} {}",
                   json.dumps({"a": "x" * 65_536}), nested(MAX_JSON_DEPTH + 1), nested(5_000),
                   json.dumps({"a": "\ud83d"}))),
]  # fmt: skip

ACCEPTED: list[Change] = [
    lambda r: None,
    config("temperature", 0),
    config("temperature", 100),
    config("top_p", 1),
    config("top_k", 0),
    config("max_tokens", 2**31 - 1),
    config("seed", 2**53 - 1),
    config("presence_penalty", -2),
    put("returns.top_logprobs", 20),
    extend("constraint.choices.values", "a", "ab"),  # one a prefix of the other
    extend("constraint.choices.values", *map(str, range(4096))),
    extend("conversation.messages", TALK),
    extend("conversation.messages", *[TALK] * 4096),
    put("raw.text", "1. e4"),
    extend("raw.token_ids.ids", 0, 2**31 - 1),
    put("reasoning.effort", generate_pb2.REASONING_EFFORT_MAX),
    both(extend("tools", TOOL), extend("tool_choice.names", "move")),
    lambda r: r.constraint.json_object.SetInParent(),
    put("request_id", "A-z_9" * 12),
    lambda r: r.labels.update({"experiment": "one", "player": "x"}),
    put("provider_options_json", json.dumps({"a": "x" * 65_000})),
    put("provider_options_json", json.dumps({"provider": {"order": ["\U0001f600"]}, "n": 1.5})),
    put("template_arguments_json", nested(MAX_JSON_DEPTH)),
]


@pytest.mark.parametrize(
    ("field", "change"), REFUSED, ids=[f"{i}-{row[0]}" for i, row in enumerate(REFUSED)]
)
def test_refused(field: str, change: Change) -> None:
    asked = request()
    change(asked)
    with pytest.raises(InvalidRequest) as caught:
        check_generate(asked)
    assert caught.value.field == field
    assert field in caught.value.message


@pytest.mark.parametrize("change", ACCEPTED)
def test_accepted(change: Change) -> None:
    asked = request()
    change(asked)
    check_generate(asked)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("model", lambda r: r.ClearField("model")),
        ("input", lambda r: r.ClearField("prompt")),
        ("continuations", lambda r: r.ClearField("continuations")),
        ("continuations", extend("continuations", *[SCORED] * MAX_CHOICES)),
        ("continuations[1]", extend("continuations", score_pb2.Continuation(text=""))),
        ("continuations[1]", extend("continuations", score_pb2.Continuation())),
        ("continuations[1].token_ids",
         extend("continuations",
                score_pb2.Continuation(token_ids=content_pb2.TokenIds(ids=[-1])))),
        ("top_logprobs", put("top_logprobs", 21)),
        ("session", put("session", "s" * 129)),
        ("request_id", put("request_id", "é")),
        ("labels", lambda r: r.labels.update({"x": "y" * 129})),
        ("template_arguments_json", put("template_arguments_json", "[")),
    ],
)  # fmt: skip
def test_score_refused(field: str, change: Change) -> None:
    asked = score_request()
    change(asked)
    with pytest.raises(InvalidRequest) as caught:
        check_score(asked)
    assert caught.value.field == field


def test_a_prompt_alone_can_be_scored() -> None:
    asked = score_request()
    asked.ClearField("continuations")
    asked.prompt_logprobs = True
    check_score(asked)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("model", lambda r: r.ClearField("model")),
        ("input", lambda r: r.ClearField("prompt")),
        ("tools[0].name", extend("tools", content_pb2.Tool())),
        ("template_arguments_json", put("template_arguments_json", "[")),
    ],
)
def test_count_tokens_refused(field: str, change: Change) -> None:
    asked = count_request()
    change(asked)
    with pytest.raises(InvalidRequest) as caught:
        check_count_tokens(asked)
    assert caught.value.field == field


#: Field 900, a string: no contract of this package has it.
EXTRA = b"\xa2\x38\x01x"
REQUESTS: list[type[ProtoMessage]] = [
    generate_pb2.GenerateRequest,
    score_pb2.ScoreRequest,
    score_pb2.CountTokensRequest,
    models_pb2.IsAvailableRequest,
    models_pb2.ListModelsRequest,
    service_info_pb2.GetServiceInfoRequest,
]


def list_places(descriptor: Descriptor, depth: int = 0) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Yield the way to each message inside a request, as fields."""
    yield ()
    for field in descriptor.fields:
        inner = field.message_type
        if inner is not None and not inner.GetOptions().map_entry and depth < 5:
            yield from ((field, *rest) for rest in list_places(inner, depth + 1))


def wrap(way: tuple[FieldDescriptor, ...], data: bytes) -> bytes:
    """Return bytes as the innermost message of the request, at the end of the way."""
    for field in reversed(way):
        tag, size = field.number << 3 | 2, len(data)
        head = [tag] if tag < 128 else [tag & 127 | 128, tag >> 7]
        head += [size] if size < 128 else [size & 127 | 128, size >> 7]
        data = bytes(head) + data
    return data


def name_path(way: tuple[FieldDescriptor, ...]) -> str:
    return ".".join(f"{field.name}[0]" if field.is_repeated else field.name for field in way)


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.DESCRIPTOR.name)
def test_an_unknown_field_is_refused_at_any_depth(kind: type[ProtoMessage]) -> None:
    ways = list(list_places(kind.DESCRIPTOR))
    for way in ways:
        data = wrap(way, EXTRA)
        with pytest.raises(UnknownField) as caught:
            check_known(kind.FromString(data), data)
        assert caught.value.field == name_path(way)
        assert caught.value.metadata == {
            "field_numbers": "900",
            "contract_revision": str(REVISION),
        }
    if kind is generate_pb2.GenerateRequest:
        assert len(ways) > 25


#: A request with one message of each kind that has an enum.
WITH_ENUMS: list[tuple[str, Change]] = [
    ("cache_use", lambda r: None),
    ("constraint.grammar.syntax", put("constraint.grammar.text", "a")),
    ("reasoning.effort", lambda r: None),
    ("reasoning.visibility", lambda r: None),
    ("returns.logprob_kind", lambda r: None),
    ("tool_choice.mode", extend("tools", TOOL)),
]


@pytest.mark.parametrize(("path", "change"), WITH_ENUMS, ids=[path for path, _ in WITH_ENUMS])
def test_an_unknown_value_of_an_enum_is_refused(path: str, change: Change) -> None:
    asked = request()
    change(asked)
    put(path, 99)(asked)
    with pytest.raises(UnknownField) as caught:
        check_generate(asked)
    assert caught.value.field == path
    assert "99" in caught.value.message


def test_an_unknown_boundary_is_refused() -> None:
    asked = score_request(boundary=99)
    with pytest.raises(UnknownField) as caught:
        check_score(asked)
    assert caught.value.field == "boundary"


def test_every_enum_of_a_request_has_a_test() -> None:
    """tests/unit/common/test_content.py has those of the messages' parts."""
    here = {path.rpartition(".")[2] for path, _ in WITH_ENUMS} | {"boundary"}
    in_parts = {"role", "detail", "form"}
    for kind in REQUESTS:
        for way in list_places(kind.DESCRIPTOR):
            message = way[-1].message_type if way else kind.DESCRIPTOR
            enums = {field.name for field in message.fields if field.enum_type is not None}
            assert enums <= here | in_parts


class Counted:
    """Claims to have very many values; fails if one of them is read."""

    def __len__(self) -> int:
        return 10**6

    def __iter__(self) -> Any:
        raise AssertionError("walked through")


def test_values_are_counted_before_they_are_copied() -> None:
    values: Any = Counted()
    with pytest.raises(InvalidRequest, match=r"at most 16 strings, not 1000000"):
        _check_count("config.stop", values, 16, "strings")


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_a_refused_request_does_not_reach_the_backend(rpc: str) -> None:
    asked = request()
    asked.config.temperature = math.nan
    async with scripted() as (backend, server), stub(server.address) as llm:
        error = await failure(getattr(llm, rpc)(asked))
        assert error.code().name == "INVALID_ARGUMENT"
        found: Any = details(error)
        assert found["ErrorInfo"].reason == "INVALID_REQUEST"
        assert found["BadRequest"].field_violations[0].field == "config.temperature"
        assert backend.history == []
        assert (await llm.Generate(request())).text == "ok"  # it still serves


def test_the_later_of_two_inputs_is_used() -> None:
    """A message cannot hold both: they are a oneof."""
    prompt = generate_pb2.GenerateRequest(prompt="first").SerializeToString()
    talk = generate_pb2.GenerateRequest()
    talk.conversation.messages.append(TALK)
    merged = generate_pb2.GenerateRequest.FromString(prompt + talk.SerializeToString())
    assert merged.WhichOneof("input") == "conversation"
    assert not merged.prompt


def test_no_check_raises_anything_else() -> None:
    """Every message is accepted or refused by name, also if all of it is unset."""
    for way in list_places(generate_pb2.GenerateRequest.DESCRIPTOR):
        asked = generate_pb2.GenerateRequest.FromString(wrap(way, b""))
        asked.model = asked.model or "hf_x"
        try:
            check_generate(asked)
        except BackendError as error:
            assert error.field, way  # noqa: PT017 - both ends are right
