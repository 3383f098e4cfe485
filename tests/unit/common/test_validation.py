"""The range of every field. An error names the field."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from arena_llm.v1 import generate_pb2, score_pb2
from services.common.errors import InvalidRequest
from services.common.validation import (
    MAX_CHOICES,
    _check_labels,
    _check_messages,
    _check_strings,
    check_generate,
    check_score,
)
from tests.support.scripted import scripted
from tests.support.wire import details, failure, request, stub

Change = Callable[[Any], object]


def config(name: str, value: float) -> Change:
    return lambda r: setattr(r.config, name, value)


def choices(*values: str) -> Change:
    def change(r: Any) -> None:
        r.constraint.choices.SetInParent()
        r.constraint.choices.values.extend(values)

    return change


def talk(count: int) -> list[generate_pb2.Message]:
    return [generate_pb2.Message(role=generate_pb2.ROLE_USER, content="hi")] * count


REFUSED: list[tuple[str, Change]] = [
    ("model", lambda r: r.ClearField("model")),
    ("model", lambda r: setattr(r, "model", "  ")),
    ("model", lambda r: setattr(r, "model", "hf_" + "x" * 300)),
    ("input", lambda r: r.ClearField("prompt")),
    ("prompt", lambda r: setattr(r, "prompt", "")),
    ("conversation.messages", lambda r: r.conversation.SetInParent()),
    ("conversation.messages[0].role", lambda r: r.conversation.messages.add(content="hi")),
    ("conversation.messages[0].role", lambda r: r.conversation.messages.add(role=99)),
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
    ("config.presence_penalty", config("presence_penalty", 2.1)),
    ("config.frequency_penalty", config("frequency_penalty", -2.1)),
    ("config.logprobs", config("logprobs", 21)),
    ("config.stop[0]", lambda r: r.config.stop.append("")),
    ("config.stop", lambda r: r.config.stop.extend("abcdefghijklmnopq")),
    ("constraint", lambda r: r.constraint.SetInParent()),
    ("constraint.choices", choices()),
    ("constraint.choices.values[1]", choices("a", "")),
    ("constraint.choices.values", choices("a", "b", "a")),
    ("constraint.choices.values", choices(*map(str, range(4097)))),
    ("constraint.json_schema", lambda r: setattr(r.constraint, "json_schema", " ")),
    ("constraint.regex", lambda r: setattr(r.constraint, "regex", "")),
    ("session", lambda r: setattr(r, "session", "s" * 257)),
    ("labels", lambda r: r.labels.update({str(i): "" for i in range(17)})),
    ("labels", lambda r: r.labels.update({"": "x"})),
    ("labels", lambda r: r.labels.update({"x": "y" * 129})),
    ("provider_options", lambda r: r.provider_options.update({"a": [math.nan]})),
    ("provider_options", lambda r: r.provider_options.update({"a": math.inf})),
    ("provider_options", lambda r: r.provider_options.update({"a": "x" * 65536})),
    ("conversation.messages", lambda r: r.conversation.messages.extend(talk(4097))),
]

ACCEPTED: list[Change] = [
    lambda r: None,
    config("temperature", 0),
    config("temperature", 100),
    config("top_p", 1),
    config("top_k", 0),
    config("max_tokens", 2**31 - 1),
    config("seed", 2**63 - 1),
    config("presence_penalty", -2),
    config("logprobs", 20),
    choices("a", "ab"),  # one a prefix of the other
    choices(*map(str, range(4096))),
    lambda r: r.conversation.messages.add(role=generate_pb2.ROLE_USER, content="hi"),
    lambda r: r.conversation.messages.extend(talk(4096)),
    lambda r: r.provider_options.update({"a": "x" * 65_000}),
    lambda r: r.labels.update({"experiment": "one", "player": "x"}),
    lambda r: r.provider_options.update({"provider": {"order": ["a"]}, "n": 1.5}),
]


@pytest.mark.parametrize(("field", "change"), REFUSED)
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
    ("field", "fields"),
    [
        ("model", {"prompt": "x", "continuations": ["a"]}),
        ("input", {"model": "hf_x", "continuations": ["a"]}),
        ("continuations", {"model": "hf_x", "prompt": "x"}),
        ("continuations[1]", {"model": "hf_x", "prompt": "x", "continuations": ["a", ""]}),
    ],
)
def test_score_refused(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_score(score_pb2.ScoreRequest(**fields))
    assert caught.value.field == field


class Counted:
    """Claims to have very many values; fails if one of them is read."""

    def __len__(self) -> int:
        return 10**6

    def __iter__(self) -> Any:
        raise AssertionError("walked through")

    keys = __getitem__ = __iter__


@pytest.mark.parametrize(
    "check",
    [
        lambda values: _check_labels("", values),
        lambda values: _check_messages(values),
        lambda values: _check_strings("config.stop", values, 16),
        lambda values: _check_strings("continuations", values, MAX_CHOICES),
    ],
)
def test_values_are_counted_before_they_are_copied(check: Callable[[Any], None]) -> None:
    with pytest.raises(InvalidRequest, match=r"at most .*, not 1000000"):
        check(Counted())


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_a_refused_request_does_not_reach_the_backend(rpc: str) -> None:
    asked = request()
    asked.config.temperature = math.nan
    async with scripted() as (backend, server), stub(server.address) as llm:
        error = await failure(getattr(llm, rpc)(asked))
        assert error.code().name == "INVALID_ARGUMENT"
        found = details(error)
        assert found["ErrorInfo"].reason == "INVALID_REQUEST"
        assert found["BadRequest"].field_violations[0].field == "config.temperature"
        assert backend.history == []
        assert (await llm.Generate(request())).text == "ok"  # it still serves


def test_the_later_of_two_inputs_is_used() -> None:
    """A message cannot hold both: they are a oneof."""
    prompt = generate_pb2.GenerateRequest(prompt="first").SerializeToString()
    talk = generate_pb2.GenerateRequest()
    talk.conversation.messages.add(role=generate_pb2.ROLE_USER, content="second")
    both = generate_pb2.GenerateRequest.FromString(prompt + talk.SerializeToString())
    assert both.WhichOneof("input") == "conversation"
    assert not both.prompt
