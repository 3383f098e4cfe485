"""Other servers in OpenRouter's place: what goes out to them, what they say in other words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from arena_llm import ArenaError
from tests.support.upstreams.openai import OpenAIUpstream
from tests.support.upstreams.openrouter import OpenRouterUpstream
from tests.support.upstreams.server import Fault, Reply
from tests.unit.openrouter.conftest import MODEL, Start, call, failed

OTHER: dict[str, Any] = {"dialect": "openai", "key": "", "max_attempts": 1}


class Other(OpenAIUpstream):
    """A server that wants no key, with or without a list of its models."""

    def __init__(self) -> None:
        super().__init__()
        self.models: tuple[int, Any] = (200, {"object": "list", "data": [{"id": "a/plain"}]})

    async def special(self, call: Any) -> Any:
        if call.path == "/v1/models":
            return web.json_response(self.models[1], status=self.models[0])
        return None if call.path == "/v1/chat/completions" else await super().special(call)


@pytest.fixture
async def other() -> Any:
    async with Other() as server:
        yield server


async def test_nothing_goes_out_that_only_openrouter_knows(start: Start, other: Other) -> None:
    async with start(base_url=other.url, **OTHER) as llm:
        for streamed in (False, True):
            options = {"temperature": 0.5, "session": "game-1", "provider_options": {"mine": 1}}
            assert await call(llm, streamed, **options) == "ok"
    for asked in other.history:
        assert "Authorization" not in asked.headers
        known = {"model", "messages", "temperature", "mine", "stream", "stream_options"}
        assert asked.body.keys() <= known


async def test_the_key_goes_along_where_there_is_one(start: Start, other: Other) -> None:
    async with start(base_url=other.url, **{**OTHER, "key": "planted"}) as llm:
        await call(llm, False)
    assert other.history[0].headers["Authorization"] == "Bearer planted"


async def test_a_stream_may_end_without_its_mark_but_not_without_its_finish(
    start: Start, other: Other
) -> None:
    other.enqueue(Reply(mark=False), Fault(truncate=True, after="ab"))
    async with start(base_url=other.url, **OTHER) as llm:
        assert await call(llm, True) == "ok"
        assert (await failed(llm, True)).reason == "UPSTREAM_UNAVAILABLE"


async def test_openrouters_stream_ends_with_its_mark(
    start: Start, upstream: OpenRouterUpstream
) -> None:
    """Its cost might be missing otherwise."""
    upstream.enqueue(Reply(mark=False))
    async with start(max_attempts=1) as llm:
        assert (await failed(llm, True)).reason == "UPSTREAM_UNAVAILABLE"


@pytest.mark.parametrize(
    ("models", "model", "available", "reason", "detail"),
    [
        ((200, {"data": [{"id": "a/plain"}]}), MODEL, True, "", "lists it"),
        (
            (200, {"data": [{"id": "a/plain"}]}),
            "openrouter_a/plane",
            False,
            "MODEL_NOT_FOUND",
            "did you mean a/plain",
        ),
        ((404, {"detail": "Not Found"}), MODEL, True, "", "HTTP 404"),
        ((500, {}), MODEL, True, "", "HTTP 500"),
        ((200, {"models": []}), MODEL, True, "", "does not list"),
        ((401, {}), MODEL, False, "API_KEY_REJECTED", "HTTP 401"),
    ],
    ids=["listed", "not listed", "no list", "broken list", "another list", "a key is wanted"],
)
async def test_whether_its_model_is_available(
    start: Start,
    other: Other,
    models: tuple[int, Any],
    model: str,
    available: bool,
    reason: str,
    detail: str,
) -> None:
    other.models = models
    async with start(base_url=other.url, **OTHER) as llm:
        answer = await llm.is_available(model)
        await llm.list_models()
    assert (answer.available, answer.reason) == (available, reason)
    assert detail in answer.detail
    assert answer.credits is None or answer.credits.balance_usd is None


async def test_a_server_that_is_not_there(start: Start) -> None:
    async with start(base_url="http://127.0.0.1:1/v1", **OTHER) as llm:
        answer = await llm.is_available(MODEL)
    assert (answer.available, answer.reason) == (False, "UPSTREAM_UNAVAILABLE")


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no such luck"}},
        {"error": "no such luck"},
        {"message": "no such luck"},
        {"detail": "no such luck"},
        {"detail": [{"loc": ["body", "seed"], "msg": "no such luck"}]},
    ],
)
async def test_its_words_are_told(start: Start, other: Other, body: Any) -> None:
    other.default = Fault(400, body=json.dumps(body).encode())
    async with start(base_url=other.url, **OTHER) as llm:
        for streamed in (False, True):
            error: ArenaError = await failed(llm, streamed)
            assert error.reason == "INVALID_REQUEST"
            assert "no such luck" in error.message
