"""The client refuses what the wire cannot carry before any I/O; the server checks the rest."""

from __future__ import annotations

import math

import pytest

import arena_llm
from arena_llm import Message
from arena_llm.errors import InvalidArgumentError
from tests.unit.client.scripted import MODEL, Fail, Script, grpc, settle

SURROGATE = "a\ud800b"
DEEP: dict = {}
DEEP["self"] = DEEP


def nested(levels: int) -> dict:
    """provider_options of this many levels."""
    options: dict = {"a": 1}
    for _ in range(levels - 1):
        options = {"a": options}
    return options


# arguments of generate, and the field at fault
UNFIT = [
    ({}, "input"),
    ({"prompt": "p", "messages": [Message("user", "u")]}, "input"),
    ({"prompt": SURROGATE}, "prompt"),
    ({"prompt": b"bytes"}, "prompt"),
    ({"prompt": "x" * (65 * 2**20)}, "input"),
    ({"messages": "one string"}, "conversation.messages"),
    ({"messages": 7}, "conversation.messages"),
    ({"messages": [Message("user", "u"), Message("bot", "b")]}, "conversation.messages[1].role"),
    ({"messages": [Message("user", SURROGATE)]}, "conversation.messages[0].parts[0].text"),
    ({"messages": [{"role": "user"}]}, "conversation.messages[0]"),
    ({"messages": ["hi"]}, "conversation.messages[0]"),
    ({"prompt": "p", "model": SURROGATE}, "model"),
    ({"prompt": "p", "model": None}, "model"),
    ({"prompt": "p", "max_tokens": 2**40}, "config.max_tokens"),
    ({"prompt": "p", "max_tokens": "9"}, "config.max_tokens"),
    ({"prompt": "p", "max_tokens": 1.5}, "config.max_tokens"),
    ({"prompt": "p", "seed": 2**63}, "config.seed"),
    ({"prompt": "p", "top_k": -(2**31) - 1}, "config.top_k"),
    ({"prompt": "p", "temperature": "hot"}, "config.temperature"),
    ({"prompt": "p", "temperature": 10**400}, "config.temperature"),
    ({"prompt": "p", "stop": [SURROGATE]}, "config.stop"),
    ({"prompt": "p", "stop": 3}, "config.stop"),
    ({"prompt": "p", "choices": "abc"}, "constraint.choices"),
    ({"prompt": "p", "choices": ["a", 1]}, "constraint.choices"),
    ({"prompt": "p", "choices": [SURROGATE]}, "constraint.choices"),
    ({"prompt": "p", "json_schema": {"a": {1, 2}}}, "constraint.json_schema"),
    ({"prompt": "p", "json_schema": {"a": math.nan}}, "constraint.json_schema"),
    ({"prompt": "p", "json_schema": DEEP}, "constraint.json_schema"),
    ({"prompt": "p", "regex": SURROGATE}, "constraint.regex"),
    ({"prompt": "p", "regex": "a", "choices": ["a"]}, "constraint"),
    ({"prompt": "p", "regex": "a", "json_schema": "{}"}, "constraint"),
    ({"prompt": "p", "session": SURROGATE}, "session"),
    ({"prompt": "p", "labels": {"a": 1}}, "labels"),
    ({"prompt": "p", "labels": {SURROGATE: "a"}}, "labels"),
    ({"prompt": "p", "provider_options": {"a": {1}}}, "provider_options_json"),
    ({"prompt": "p", "provider_options": DEEP}, "provider_options_json"),
    ({"prompt": "p", "template_arguments": {"a": {1}}}, "template_arguments_json"),
    ({"prompt": "p", "timeout": math.nan}, "timeout"),
    ({"prompt": "p", "timeout": "soon"}, "timeout"),
    # Protobuf accepts bytes as strings.
    ({"prompt": "p", "model": b"hf_x"}, "model"),
    ({"prompt": "p", "session": b"s"}, "session"),
    ({"prompt": "p", "labels": {"a": b"b"}}, "labels"),
    ({"prompt": "p", "labels": ["ab"]}, "labels"),
    ({"prompt": "p", "choices": ["a", b"b"]}, "constraint.choices"),
    ({"prompt": "p", "stop": [b"b"]}, "config.stop"),
    ({"prompt": "p", "regex": b"b"}, "constraint.regex"),
    (
        {"messages": [Message("user", [arena_llm.Text(b"b")])]},
        "conversation.messages[0].parts[0].text",
    ),  # type: ignore[arg-type]
    ({"prompt": "p", "provider_options": nested(5000)}, "provider_options_json"),
    ({"prompt": "p", "provider_options": [1]}, "provider_options_json"),
    ({"prompt": "p", "grammar": "root ::= [0-8]"}, "constraint.grammar"),
    ({"prompt": "p", "json_object": True, "regex": "a"}, "constraint"),
    ({"prompt": "p", "tools": "move"}, "tools"),
    ({"prompt": "p", "tools": [{"name": "move"}]}, "tools[0]"),
    ({"prompt": "p", "reasoning_effort": "much"}, "reasoning.effort"),
    ({"prompt": "p", "logit_bias": {"a": 1}}, "config.logit_bias"),
    (
        {"prompt": "p", "reasoning_effort": "low", "reasoning_budget_tokens": 1},
        "reasoning.budget_tokens",
    ),
    ({"prompt": arena_llm.RawPrompt("a", (1,))}, "raw.token_ids"),
    (
        {"messages": [Message("user", [arena_llm.Image(b"a", url="b")])]},
        "conversation.messages[0].parts[0].image.url",
    ),
]
#: Parts of messages of Python and protobuf that do not help a caller.
UNHELPFUL = ("built-in operation", "codec", "attribute", "unpack", "recursion", "dictionary")


def check(error: InvalidArgumentError, field: str) -> None:
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert error.field == field
    assert field in error.message
    assert not any(words in error.message for words in UNHELPFUL)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("arguments", "field"), UNFIT, ids=[f"{i}-{field}" for i, (_, field) in enumerate(UNFIT)]
)
def test_generate(arguments, field) -> None:
    # Nothing listens there: an accepted argument would raise UnavailableError.
    llm = arena_llm.Client("unix:/nowhere")
    for method in (llm.generate, llm.stream):
        with pytest.raises(InvalidArgumentError) as caught:
            method(**{"model": MODEL, **arguments})
        check(caught.value, field)


async def test_both_clients_refuse_before_a_call(either, script: Script) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await settle(either.generate(MODEL, SURROGATE))
    check(caught.value, "prompt")
    with pytest.raises(InvalidArgumentError) as caught:
        either.stream(MODEL, SURROGATE)
    check(caught.value, "prompt")
    assert script.history == []


@pytest.mark.parametrize(
    ("continuations", "field"),
    [
        ("abc", "continuations"),
        (7, "continuations"),
        ([SURROGATE], "continuations[0].text"),
        ([b"a"], "continuations[0]"),
        (["a", None], "continuations[1]"),
        ([["a"]], "continuations[0].token_ids"),
    ],
)
async def test_score(either, script: Script, continuations, field) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await settle(either.score(MODEL, "p", continuations))
    check(caught.value, field)
    assert script.history == []


async def test_is_available(either, script: Script) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await settle(either.is_available(SURROGATE))
    check(caught.value, "model")
    assert script.history == []


async def test_list_models(either, script: Script) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await settle(either.list_models(SURROGATE))
    check(caught.value, "name_prefix")
    assert script.history == []


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"prompts": ["a"], "concurrency": 0}, "concurrency"),
        ({"prompts": ["a"], "concurrency": "2"}, "concurrency"),
        ({"prompts": ["a"], "concurrency": 1.5}, "concurrency"),
        ({"prompts": "one prompt"}, "prompts"),
    ],
)
async def test_generate_many(either, arguments, field) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await settle(either.generate_many(MODEL, **arguments))
    check(caught.value, field)


async def test_an_unknown_option_is_a_type_error(either) -> None:
    for method in (either.generate, either.stream):
        with pytest.raises(TypeError, match=r"'tempreature'; did you mean temperature\?"):
            await settle(method(MODEL, "p", tempreature=1))
    with pytest.raises(TypeError, match=r"'tempreature'; did you mean temperature\?"):
        either.generate_many(MODEL, ["p"], tempreature=1)
    with pytest.raises(TypeError, match="'zzz'; the options are cache_use, choices, "):
        await settle(either.generate(MODEL, "p", zzz=1))


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": ""},
        {"prompt": ""},
        {"prompt": None, "messages": []},
        {"temperature": math.nan},
        {"temperature": -1},
        {"top_p": 2},
        {"max_tokens": -5},
        {"max_tokens": 2**31 - 1},
        {"choices": []},
        {"json_schema": "{broken"},
        {"regex": "("},
        {"provider_options": nested(33)},
        {"provider_options": {"a": SURROGATE}},
        {"timeout": 10**400},
    ],
)
async def test_the_server_checks_the_rest(either, script: Script, arguments) -> None:
    script.enqueue(
        Fail(grpc.StatusCode.INVALID_ARGUMENT, "config.x is bad", "INVALID_REQUEST", "config.x")
    )
    with pytest.raises(InvalidArgumentError) as caught:
        await settle(either.generate(**{"model": MODEL, "prompt": "p", **arguments}))
    check(caught.value, "config.x")
    assert len(script.history) == 1


def test_the_prompt_is_in_no_message(llm: arena_llm.Client) -> None:
    secret = "my secret prompt"  # noqa: S105 - a word to look for
    with pytest.raises(InvalidArgumentError) as caught:
        llm.generate(MODEL, secret + SURROGATE)
    assert "secret" not in str(caught.value)
