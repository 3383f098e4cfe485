"""What the gateway refuses, what it ignores, and what it says about it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import EnumValueDescriptor
from pydantic import ValidationError

from arena_llm import ArenaError
from arena_llm.v1 import error_pb2
from gateway.config import GatewayConfig
from gateway.errors import BY_REASON, to_api_error
from gateway.options import find_param
from gateway.schema.answers import ChatAnswer, ErrorAnswer, TextAnswer
from services.common import errors
from tests.unit.gateway.conftest import OpenDoor, Opener


async def test_answers_are_those_of_the_document(door: OpenDoor) -> None:
    _, headers, answer = await door.post()
    ChatAnswer.model_validate_json(json.dumps(answer))
    assert answer["id"] == f"chatcmpl-{headers['x-request-id']}"
    _, _, answer = await door.post("/v1/completions", prompt="x")
    TextAnswer.model_validate_json(json.dumps(answer))
    _, _, answer = await door.post(temperature="warm")
    ErrorAnswer.model_validate_json(json.dumps(answer))


#: What is wrong with a request, and the field that the error names.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"foo": 1}, "foo"),
    ({"messages": [{"role": "user", "content": "x", "name": "me"}]}, "messages[0].name"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "owner", "content": "x"}]}, "messages[0]"),
    ({"messages": []}, "messages"),
    ({"temperature": "1"}, "temperature"),
    ({"n": 0}, "n"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages[0]"),
    ({"guided_choice": []}, "guided_choice"),
    ({"add_generation_prompt": False}, "add_generation_prompt"),
    (
        {"add_generation_prompt": True, "continue_final_message": True},
        "add_generation_prompt",
    ),
    ({"model": "none_x"}, "model"),
]


async def test_an_error_names_the_field_in_the_callers_words(door: OpenDoor) -> None:
    for body, param in WRONG:
        status, _, answer = await door.post(**body)
        assert status in (400, 404), body
        assert answer["error"]["param"].startswith(param), body


async def test_the_description_of_a_schema_reaches_the_model(door: OpenDoor) -> None:
    for schema, expected in (({}, "a move"), ({"description": "own"}, "own")):
        named = {"name": "move", "description": "a move", "schema": schema}
        door.backend.enqueue("{}")
        status, _, _ = await door.post(
            response_format={"type": "json_schema", "json_schema": named}
        )
        assert status == 200
        request = door.backend.history[-1]
        assert json.loads(request.constraint.schema) == {"description": expected}  # type: ignore[union-attr]


async def test_unknown_fields_are_ignored_and_named_where_that_is_configured(
    open_door: Opener,
) -> None:
    async with open_door(drop_unknown=True) as door:
        message = {"role": "user", "content": [{"type": "text", "text": "x", "lang": "en"}]}
        status, headers, _ = await door.post(messages=[message], foo=1, temperature=0.5)
        assert status == 200
        ignored = headers["arena-ignored-fields"].split(", ")
        assert sorted(ignored) == ["foo", "messages[0].content[0].lang"]
        assert door.backend.history[0].sampling.temperature == 0.5  # type: ignore[union-attr]
        status, _, answer = await door.post(foo=1, temperature="warm")
        assert (status, answer["error"]["param"]) == (400, "temperature")


async def test_broken_json_and_other_paths_have_error_objects(door: OpenDoor) -> None:
    for method, path, status in (
        ("POST", "/v1/chat/completions", 400),
        ("GET", "/v1/chat/completions", 405),
        ("GET", "/v2", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "/v1/embeddings", 404),
    ):
        async with door.session.request(method, door.url + path, data=b"{") as answer:
            assert answer.status == status
            ErrorAnswer.model_validate_json(await answer.read())


@pytest.mark.parametrize(
    ("inside", "key"),
    [
        ('"seed": 1, "seed": 2', "seed"),
        ('"seed": 1, "seed"\n: 2', "seed"),
        ('"messages": [{"role": "user", "content": "x", "role": "system"}]', "role"),
    ],
)
async def test_a_key_given_twice_is_refused(door: OpenDoor, inside: str, key: str) -> None:
    """Otherwise one of the values would be ignored in silence."""
    body = f'{{"model": "hf_model", {inside}}}'
    url = f"{door.url}/v1/chat/completions"
    async with door.session.post(url, data=body) as answer:
        error = ErrorAnswer.model_validate_json(await answer.read()).error
        assert answer.status == 400
    assert error.param == key
    assert f"has the key {key!r} several times" in error.message
    assert not door.backend.history


async def test_a_text_may_look_like_a_key(door: OpenDoor) -> None:
    message = {"role": "user", "content": '{"a": 1, "a": 2}'}
    assert (await door.post(messages=[message]))[0] == 200


async def test_a_compressed_body_is_refused(door: OpenDoor) -> None:
    status, headers, answer = await door.post(headers={"Content-Encoding": "gzip"})
    assert (status, headers["accept-encoding"]) == (415, "identity")
    assert "'gzip': send it uncompressed" in answer["error"]["message"]
    assert (await door.post(headers={"Content-Encoding": "Identity"}))[0] == 200


async def test_a_caller_can_repeat_a_request_safely(door: OpenDoor) -> None:
    headers = {"Idempotency-Key": "move-7"}
    first = await door.post(headers=headers)
    assert first[1]["x-request-id"] == "move-7"
    assert (await door.post(headers=headers))[0] == 200
    assert len(door.backend.history) == 1
    status, _, answer = await door.post(headers=headers, seed=1)
    assert (status, answer["error"]["code"]) == (409, "request_id_reused")
    assert (await door.post(headers={"Idempotency-Key": "a b"}))[0] == 400


async def test_a_model_without_raw_prompts_names_the_other_endpoint(door: OpenDoor) -> None:
    hint = errors.Unsupported("hf models do not honour raw.text: use prompt", field="raw.text")
    door.backend.enqueue(hint)
    status, _, answer = await door.post("/v1/completions", prompt="x")
    assert (status, answer["error"]["param"]) == (400, "prompt")
    assert "use /v1/chat/completions" in answer["error"]["message"]


async def test_what_waiting_does_not_cure_is_not_repeated(door: OpenDoor) -> None:
    door.backend.enqueue(errors.RateLimited("wait", retry_after=7), errors.Internal("bug"))
    status, headers, _ = await door.post()
    assert (status, headers["retry-after"]) == (429, "7")
    assert "x-should-retry" not in headers
    status, headers, _ = await door.post()
    assert (status, headers["x-should-retry"]) == (500, "false")


def test_every_reason_of_the_contract_has_a_status() -> None:
    values: list[EnumValueDescriptor] = list(error_pb2.ErrorReason.DESCRIPTOR.values)
    reasons = {value.name.removeprefix("ERROR_REASON_") for value in values} - {"UNSPECIFIED"}
    assert set(BY_REASON) == reasons


def test_a_field_of_the_contract_is_said_in_the_callers_words() -> None:
    words = {"constraint": "guided_regex", "config.max_tokens": "max_completion_tokens"}
    for field, param in {
        "config.temperature": "temperature",
        "config.max_tokens": "max_completion_tokens",
        "constraint.regex": "guided_regex",
        "conversation.messages[2].parts[0].image": "messages[2].content[0].image",
        "tools[0].parameters_json_schema": "tools[0].function.parameters",
        "reasoning.effort": "reasoning_effort",
        "raw.text": "prompt",
        "raw.add_special_tokens": "add_special_tokens",
        "model": "model",
        "": None,
    }.items():
        assert find_param(field, words) == param
    error = to_api_error(ArenaError("config.top_p is wrong", field="config.top_p"), "top_p")
    assert error.message == "top_p is wrong"


async def test_the_log_has_no_prompt_and_no_token(
    open_door: Opener, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_door(drop_unknown=True) as door:
        secret = [{"role": "user", "content": "a secret move", "secret": "a secret move"}]
        headers = {"Authorization": "Bearer a-secret-token"}
        await door.post(messages=secret, headers=headers, stream=False)
        await door.post(messages=secret, headers=headers, temperature="a secret value")
        door.backend.enqueue(RuntimeError("a secret bug"))
        await door.post(messages=secret, headers=headers)
    log = capsys.readouterr().err
    lines = [line for line in log.splitlines() if "rpc=chat.completions" in line]
    assert [re.findall(r"status=(\w+)", line) for line in lines] == [
        ["OK"], ["INVALID_ARGUMENT"], ["INTERNAL"],
    ]  # fmt: skip
    assert not [line for line in lines if "secret" in line]


def test_the_configuration_needs_callers_and_tls_beyond_loopback(tmp_path: Path) -> None:
    open_to_all = {"listen": "0.0.0.0:50080"}
    tls = {"tls": {"certificate": tmp_path / "a", "key": tmp_path / "b"}}
    for settings in (open_to_all, {**open_to_all, "require_token": True}, {**open_to_all, **tls}):
        with pytest.raises(ValidationError, match="other machines can reach"):
            GatewayConfig.model_validate(settings)
    for more in ({"insecure": True}, {**tls, "require_token": True}):
        GatewayConfig.model_validate({**open_to_all, **more})
