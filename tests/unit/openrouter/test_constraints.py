"""Choices and JSON schema on models with and without structured output."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.upstreams.openrouter import COST, OpenRouterUpstream
from tests.support.upstreams.server import Reply
from tests.unit.openrouter.conftest import Start

SCHEMA, PLAIN = "openrouter_a/schema", "openrouter_a/plain"
MOVE = {"type": "object", "properties": {"move": {"type": "integer"}}, "required": ["move"]}


@pytest.mark.parametrize(
    "said", ['{"choice": "4"}', "4", " 4\n", '"4"', '```json\n{"choice":"4"}\n```']
)
@pytest.mark.parametrize("model", [SCHEMA, PLAIN])
async def test_a_choice_comes_back_bare(
    llm: AsyncClient, upstream: OpenRouterUpstream, model: str, said: str
) -> None:
    upstream.enqueue(Reply(said), Reply(said))
    assert (await llm.generate(model, "Your move?", choices=["0", "4"])).text == "4"
    stream = llm.stream(model, "Your move?", choices=["0", "4"])
    assert [delta async for delta in stream] == ["4"]
    assert stream.completion is not None
    assert stream.completion.usage.cost_usd == COST


async def test_choices_are_an_enum_where_the_model_takes_a_schema(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.enqueue(Reply('{"choice": "a1"}'))
    await llm.generate(SCHEMA, "Your move?", choices=["a1", "b2"])
    body = upstream.history[0].body
    assert body["messages"] == [{"role": "user", "content": "Your move?"}]
    assert body["provider"] == {"require_parameters": True}
    assert body["response_format"]["json_schema"] == {
        "name": "choice",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"choice": {"type": "string", "enum": ["a1", "b2"]}},
            "required": ["choice"],
            "additionalProperties": False,
        },
    }


async def test_choices_stand_in_the_prompt_where_it_takes_none(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.enqueue(Reply("I would play b2."), Reply("b2"))
    reply = await llm.generate(PLAIN, "Your move?", choices=["a1", "b2"])
    first, second = (call.body for call in upstream.history)
    assert "response_format" not in first
    assert first["messages"][0]["content"].endswith("nothing else:\na1\nb2")
    assert second["messages"][:2] == [
        *first["messages"],
        {"role": "assistant", "content": "I would play b2."},
    ]
    assert "character by character" in second["messages"][2]["content"]
    assert (reply.text, reply.attempts) == ("b2", 2)
    assert reply.usage.prompt_tokens == 24
    assert reply.usage.cost_usd == 2 * COST


@pytest.mark.parametrize("model", [SCHEMA, PLAIN])
async def test_never_a_wrong_string(
    llm: AsyncClient, upstream: OpenRouterUpstream, model: str
) -> None:
    upstream.default = Reply('{"choice": "c3"}')
    with pytest.raises(ArenaError) as caught:
        await llm.generate(model, "Your move?", choices=["a1", "b2"])
    assert (caught.value.reason, caught.value.field) == ("UNSUPPORTED", "constraint.choices")
    # Both replies were paid for.
    assert caught.value.metadata == {
        "attempts": "2",
        "prompt_tokens": "24",
        "completion_tokens": "10",
        "cost_usd": repr(2 * COST),
    }
    assert len(upstream.history) == 2


@pytest.mark.parametrize("known", [True, False])
async def test_the_entry_decides_where_it_says(
    start: Start, upstream: OpenRouterUpstream, known: bool
) -> None:
    upstream.default = Reply("b2")
    entry = {"name": "openrouter_a/any", "structured_output": known}
    async with start(models=[entry]) as llm:
        await llm.generate("openrouter_a/any", "Your move?", choices=["a1", "b2"])
    assert ("response_format" in upstream.history[0].body) == known
    assert "/models" not in upstream.asked


async def test_without_a_catalogue_schemas_are_taken_for_granted(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.models_status = 500
    upstream.enqueue(Reply('{"choice": "a1"}'))
    assert (await llm.generate(PLAIN, "Your move?", choices=["a1"])).text == "a1"
    assert "response_format" in upstream.history[0].body


@pytest.mark.parametrize("model", [SCHEMA, PLAIN])
@pytest.mark.parametrize("said", ['{"move": 4}', '```json\n{"move": 4}\n```'])
async def test_json_that_the_schema_accepts(
    llm: AsyncClient, upstream: OpenRouterUpstream, model: str, said: str
) -> None:
    upstream.enqueue(Reply('{"move": "four"}'), Reply(said))
    reply = await llm.generate(model, "Your move?", json_schema=MOVE)
    assert json.loads(reply.text) == {"move": 4}
    assert len(upstream.history) == 2


async def test_json_that_it_never_accepts(llm: AsyncClient, upstream: OpenRouterUpstream) -> None:
    upstream.default = Reply("four")
    with pytest.raises(ArenaError) as caught:
        await llm.generate(SCHEMA, "Your move?", json_schema=MOVE)
    assert (caught.value.reason, caught.value.field) == ("UNSUPPORTED", "constraint.json_schema")


async def test_a_reply_cut_by_max_tokens_names_it(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.default = Reply('{"mo', fields={"choice": {"finish_reason": "length"}})
    with pytest.raises(ArenaError) as caught:
        await llm.generate(SCHEMA, "Your move?", json_schema=MOVE, max_tokens=2)
    assert (caught.value.reason, caught.value.field) == ("INVALID_REQUEST", "config.max_tokens")
    assert len(upstream.history) == 1


@pytest.mark.timeout(30)
async def test_a_pattern_that_backtracks_does_not_hold_the_service(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.enqueue(Reply(json.dumps("a" * 60 + "!")), Reply('"aaa"'))
    reply = await llm.generate(SCHEMA, "Your move?", json_schema={"pattern": "^(a+)+$"})
    assert (reply.text, reply.attempts) == ('"aaa"', 2)


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
        ({"regex": "a" * 70_000}, "INVALID_REQUEST", "constraint.regex"),
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
async def test_constraints_that_cannot_be_kept(
    llm: AsyncClient, constraint: dict[str, Any], reason: str, field: str
) -> None:
    with pytest.raises(ArenaError) as caught:
        await llm.generate(SCHEMA, "Your move?", **constraint)
    assert (caught.value.reason, caught.value.field) == (reason, field)
