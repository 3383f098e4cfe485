"""Choices and JSON schemas, on models with and without structured output."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from arena_llm import ArenaError, AsyncClient
from arena_llm.types import Tool, to_picousd
from tests.support.upstreams.openrouter import COST
from tests.support.upstreams.server import Fault, Reply, Step
from tests.unit.hosted.conftest import OPENAI_FORMAT, Provider, Start, fail, read_stream

MOVE = {"type": "object", "properties": {"move": {"type": "integer"}}, "required": ["move"]}
STRUCTURED = pytest.mark.parametrize("structured", [True, False], ids=["schema", "words"])
OPENROUTER = pytest.mark.parametrize("provider", ["openrouter"], indirect=True)


@STRUCTURED
async def test_a_choice_is_returned_bare(
    start: Start, upstream: Any, provider: Provider, structured: bool
) -> None:
    """The request has an enum, or an instruction if the model takes no schema."""
    async with start({"structured_output": structured}) as llm:
        for text in ('{"choice": "4"}', "4", " 4\n", '"4"', '```json\n{"choice":"4"}\n```'):
            upstream.enqueue(Reply(text), Reply(text))
            reply = await llm.generate(provider.model, "Your move?", choices=["0", "4"])
            stream = llm.stream(provider.model, "Your move?", choices=["0", "4"])
            texts, completion = await read_stream(stream)
            assert (reply.text, texts, len(completion.attempts)) == ("4", ["4"], 1), text
            assert completion.enforcement == reply.enforcement
            assert reply.enforcement == ("provider" if structured else "prompt")
    for request in upstream.history:
        sent = json.dumps(request.body)
        assert ('"enum": ["0", "4"]' in sent) == structured
        assert ("nothing else:\\n0\\n4" in sent) == (not structured)


@STRUCTURED
async def test_a_wrong_choice_is_never_returned(
    start: Start, upstream: Any, provider: Provider, structured: bool
) -> None:
    """The model gets a second chance. What both replies cost is in the error."""
    upstream.default = Reply('{"choice": "c3"}')
    async with start({"structured_output": structured}) as llm:
        error = await fail(llm, False, provider.model, choices=["a1", "b2"])
    assert (error.code, error.reason) == ("ABORTED", "CONSTRAINT_NOT_MET")
    assert error.field == "constraint.choices"
    assert len(upstream.history) == 2
    assert error.report is not None
    assert [attempt.http_status for attempt in error.report.attempts] == [200, 200]
    usage = error.report.usage
    assert usage.prompt_tokens == 24
    assert usage.cost_picousd == sum(a.cost_picousd or 0 for a in error.report.attempts) > 0


@OPENAI_FORMAT
async def test_the_second_request_shows_the_first_reply(
    start: Start, upstream: Any, provider: Provider
) -> None:
    upstream.enqueue(Reply("I would play b2."), Reply("b2"))
    async with start({"structured_output": False}) as llm:
        reply = await llm.generate(provider.model, "Your move?", choices=["a1", "b2"])
    first, second = (request.body["messages"] for request in upstream.history)
    assert second[:2] == [*first, {"role": "assistant", "content": "I would play b2."}]
    assert "character by character" in second[2]["content"]
    assert (reply.text, len(reply.attempts), reply.usage.prompt_tokens) == ("b2", 2, 24)
    if provider.service == "openrouter":
        assert reply.usage.cost_picousd == 2 * to_picousd(COST)


@STRUCTURED
@OPENAI_FORMAT
async def test_json_that_the_schema_accepts(
    start: Start, upstream: Any, provider: Provider, structured: bool
) -> None:
    async with start({"structured_output": structured}) as llm:
        for text in ('{"move": 4}', '```json\n{"move": 4}\n```'):
            upstream.history.clear()
            upstream.enqueue(Reply('{"move": "four"}'), Reply(text))
            reply = await llm.generate(provider.model, "Your move?", json_schema=MOVE)
            assert json.loads(reply.text) == {"move": 4}
            for request in upstream.history:
                schema = request.body.get("response_format", {}).get("json_schema", {})
                assert schema.get("schema") == (MOVE if structured else None)


@OPENAI_FORMAT
async def test_json_that_the_schema_never_accepts(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    upstream.default = Reply("four")
    error = await fail(llm, False, provider.model, json_schema=MOVE)
    assert (error.reason, error.field) == ("CONSTRAINT_NOT_MET", "constraint.json_schema")


@STRUCTURED
@OPENAI_FORMAT
async def test_any_json_object(
    start: Start, upstream: Any, provider: Provider, structured: bool
) -> None:
    async with start({"structured_output": structured}) as llm:
        upstream.enqueue(Reply("[4]"), Reply('```json\n{"move": 4}\n```'))
        reply = await llm.generate(provider.model, "Your move?", json_object=True)
    assert (reply.text, len(reply.attempts)) == ('{"move": 4}', 2)
    assert reply.enforcement == ("provider" if structured else "prompt")
    for request in upstream.history:
        expected = {"type": "json_object"} if structured else None
        assert request.body.get("response_format") == expected
        assert "JSON object" in str(request.body["messages"])  # OpenAI requires the word


@OPENAI_FORMAT
async def test_a_tool_call_in_place_of_a_constrained_text(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    upstream.default = Reply("", calls=[("call_1", "move", "{}")])
    reply = await llm.generate(provider.model, "Your move?", choices=["a1"], tools=[Tool("move")])
    assert reply.finish_reason == "tool_calls"
    assert len(upstream.history) == 1


@OPENAI_FORMAT
async def test_the_first_reply_is_reported_if_the_second_request_fails(
    start: Start, upstream: Any, provider: Provider
) -> None:
    upstream.enqueue(Reply("four"), Fault(400))
    async with start() as llm:
        error = await fail(llm, False, provider.model, choices=["a1"])
    assert (error.reason, error.report is not None) == ("INVALID_REQUEST", True)
    assert error.report is not None
    assert [attempt.http_status for attempt in error.report.attempts] == [200, 400]
    assert error.report.usage.prompt_tokens == 12
    assert error.report.usage.cost_picousd == error.report.attempts[0].cost_picousd


@OPENAI_FORMAT
async def test_a_reply_cut_off_by_max_tokens_names_it(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    upstream.default = Reply('{"mo', fields={"choice": {"finish_reason": "length"}})
    error = await fail(llm, False, provider.model, json_schema=MOVE, max_tokens=2)
    assert (error.reason, error.field) == ("INVALID_REQUEST", "config.max_tokens")
    assert error.report is not None
    assert error.report.usage.prompt_tokens == 12
    assert len(upstream.history) == 1


@OPENROUTER
async def test_the_catalogue_decides_if_the_entry_does_not(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    for model in ("openrouter_a/schema", "openrouter_a/plain"):
        upstream.enqueue(Reply("b2"))
        await llm.generate(model, "Your move?", choices=["a1", "b2"])
    first, second = (request.body for request in upstream.history)
    assert first["response_format"]["json_schema"] == {
        "name": "choice",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"choice": {"type": "string", "enum": ["a1", "b2"]}},
            "required": ["choice"],
            "additionalProperties": False,
        },
    }
    assert first["provider"] == {"require_parameters": True}
    assert "response_format" not in second


@OPENROUTER
async def test_without_a_catalogue_the_model_gets_the_schema(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    upstream.models_status = 500
    upstream.enqueue(Reply('{"choice": "a1"}'))
    assert (await llm.generate(provider.model, "Your move?", choices=["a1"])).text == "a1"
    assert "response_format" in upstream.history[0].body


@pytest.mark.timeout(30)
@OPENROUTER
async def test_a_pattern_that_backtracks_does_not_block_the_service(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    upstream.enqueue(Reply(json.dumps("a" * 60 + "!")), Reply('"aaa"'))
    reply = await llm.generate(provider.model, "Your move?", json_schema={"pattern": "^(a+)+$"})
    assert (reply.text, len(reply.attempts)) == ('"aaa"', 2)


_FAN_OUT = {
    "$defs": {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
    | {"d40": {"type": "integer"}},
    "$ref": "#/$defs/d0",
}


@pytest.mark.parametrize(
    ("constraint", "reason", "field"),
    [
        ({"json_schema": _FAN_OUT}, "INVALID_REQUEST", "constraint.json_schema"),
        ({"json_schema": {"const": "a" * 70_000}}, "INVALID_REQUEST", "constraint.json_schema"),
        ({"regex": "[0-9]"}, "UNSUPPORTED", "constraint.regex"),
        ({"json_schema": "{"}, "INVALID_REQUEST", "constraint.json_schema"),
        ({"json_schema": '{"type": "nonsense"}'}, "INVALID_REQUEST", "constraint.json_schema"),
        (
            {"json_schema": '{"$ref": "http://127.0.0.1:1/schema.json"}'},
            "INVALID_REQUEST",
            "constraint.json_schema",
        ),
    ],
)
@OPENROUTER
async def test_constraints_that_are_refused(
    llm: AsyncClient, provider: Provider, constraint: dict[str, Any], reason: str, field: str
) -> None:
    with pytest.raises(ArenaError) as caught:
        await llm.generate(provider.model, "Your move?", **constraint)
    assert (caught.value.reason, caught.value.field) == (reason, field)


def refuse_schemas(received: Any) -> Step:
    """A provider whose model takes no JSON schema although a table says so."""
    return Fault(400) if "response_format" in received.body else Reply("b2")


@OPENAI_FORMAT
async def test_the_provider_is_believed_over_the_tables(
    start: Start, upstream: Any, provider: Provider
) -> None:
    upstream.default = refuse_schemas
    async with start({"structured_output": True}) as llm:
        first, second = [
            await llm.generate(provider.model, "Your move?", choices=["a1", "b2"]) for _ in "12"
        ]
    assert (first.text, first.enforcement) == ("b2", "prompt")
    assert [attempt.http_status for attempt in first.attempts] == [400, 200]
    assert [attempt.http_status for attempt in second.attempts] == [200], "it is remembered"


@OPENAI_FORMAT
async def test_a_bad_request_is_not_blamed_on_the_schema(
    start: Start, upstream: Any, provider: Provider
) -> None:
    upstream.default = Fault(400, "temperature is too high")
    async with start({"structured_output": True}) as llm:
        for _ in "12":
            upstream.history.clear()
            error = await fail(llm, False, provider.model, choices=["a1", "b2"])
            assert (error.reason, len(upstream.history)) == ("INVALID_REQUEST", 2)
            assert "temperature is too high" in error.message


TREE = {
    "type": "array",
    "items": {"anyOf": [{"$ref": "#/$defs/leaf"}, {"$ref": "#"}]},
    "$defs": {"leaf": {"type": "integer"}},
}


@OPENAI_FORMAT
@pytest.mark.parametrize("schema", [TREE, {"type": "integer"}, {"enum": [[4], 4]}, True])
async def test_a_schema_that_is_not_of_an_object_is_wrapped(
    start: Start, upstream: Any, provider: Provider, schema: Any
) -> None:
    value = [4] if schema == TREE else 4
    text = json.dumps(value)
    wrapped = json.dumps({"value": value})
    async with start({"structured_output": True}) as llm:
        for reply in (wrapped, text):
            upstream.default = Reply(reply)
            completion = await llm.generate(
                provider.model, "Your move?", json_schema=json.dumps(schema)
            )
            assert completion.text == text
    sent = upstream.history[0].body["response_format"]["json_schema"]["schema"]
    assert sent["type"] == "object"
    check = jsonschema.Draft202012Validator(sent)
    assert check.is_valid({"value": value})
    assert check.is_valid({"value": "four"}) is (schema is True)
    assert check.is_valid({"value": [4, [4, []]]}) is (schema in (TREE, True))


@OPENAI_FORMAT
async def test_a_schema_of_an_object_is_sent_unchanged(
    start: Start, upstream: Any, provider: Provider
) -> None:
    upstream.default = Reply('{"value": {"value": 4}}')
    schema = {"properties": {"value": {"type": "object"}}}
    async with start({"structured_output": True}) as llm:
        completion = await llm.generate(provider.model, "Your move?", json_schema=schema)
    assert completion.text == '{"value": {"value": 4}}'
    assert upstream.history[0].body["response_format"]["json_schema"]["schema"] == schema
