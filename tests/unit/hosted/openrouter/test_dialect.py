"""The dialect "openai": other servers in the place of OpenRouter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from arena_llm import ArenaError
from services.openrouter.config import OpenRouterConfig
from tests.support.upstreams.checks import result
from tests.support.upstreams.frames import STREAMED
from tests.support.upstreams.openai import OpenAIUpstream
from tests.support.upstreams.openrouter import OpenRouterUpstream
from tests.support.upstreams.server import Fault, Reply
from tests.unit.hosted.conftest import Start, call, fail
from tests.unit.hosted.openrouter.conftest import MODEL

OTHER: dict[str, Any] = {"dialect": "openai", "key": "", "max_attempts": 1}


class Other(OpenAIUpstream):
    """A server that needs no key, with or without a list of models."""

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


async def test_only_openais_fields_are_sent(start: Start, other: Other) -> None:
    async with start(url=other.url, **OTHER) as llm:
        for streamed in (False, True):
            options = {"temperature": 0.5, "session": "game-1", "provider_options": {"mine": 1}}
            assert await call(llm, streamed, MODEL, **options) == "ok"
    for request in other.history:
        assert "Authorization" not in request.headers
        known = {"model", "messages", "temperature", "mine", "stream", "stream_options"}
        assert request.body.keys() <= known


async def test_a_key_is_sent_if_there_is_one(start: Start, other: Other) -> None:
    async with start(url=other.url, **{**OTHER, "key": "planted"}) as llm:
        await call(llm, False, MODEL)
    assert other.history[0].headers["Authorization"] == "Bearer planted"


async def test_a_stream_needs_a_finish_reason_but_no_mark(start: Start, other: Other) -> None:
    other.enqueue(Reply(mark=False), Fault(truncate=True, after="ab"))
    async with start(url=other.url, **OTHER) as llm:
        assert await call(llm, True, MODEL) == "ok"
        assert (await fail(llm, True, MODEL)).reason == "INTERRUPTED"


async def test_openrouters_stream_needs_its_mark(
    start: Start, upstream: OpenRouterUpstream
) -> None:
    """Otherwise its cost might be missing."""
    upstream.enqueue(Reply(mark=False))
    async with start(max_attempts=1) as llm:
        assert (await fail(llm, True, MODEL)).reason == "INTERRUPTED"


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
    ids=["listed", "not listed", "no list", "broken list", "another list", "a key is needed"],
)
async def test_availability(
    start: Start,
    other: Other,
    models: tuple[int, Any],
    model: str,
    available: bool,
    reason: str,
    detail: str,
) -> None:
    other.models = models
    async with start(url=other.url, **OTHER) as llm:
        answer = await llm.is_available(model)
        await llm.list_models()
    assert (answer.available, answer.reason) == (available, reason)
    assert detail in answer.detail
    assert answer.credits is None or answer.credits.balance_usd is None


async def test_a_server_that_cannot_be_reached(start: Start) -> None:
    async with start(url="http://127.0.0.1:1/v1", **OTHER) as llm:
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
async def test_its_errors_are_read(start: Start, other: Other, body: Any) -> None:
    other.default = Fault(400, body=json.dumps(body).encode())
    async with start(url=other.url, **OTHER) as llm:
        for streamed in (False, True):
            error: ArenaError = await fail(llm, streamed, MODEL)
            assert error.reason == "INVALID_REQUEST"
            assert "no such luck" in error.message


async def test_an_unfinished_last_event_is_read(start: Start, other: Other) -> None:
    other.default = STREAMED["no mark, no last line break"].fault(True)
    async with start(url=other.url, **OTHER) as llm:
        assert await result(llm, MODEL, True) == "ok"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("base_url", "http://127.0.0.1:1/v1?key=k"),
        ("base_url", "http://127.0.0.1:1/v1#k"),
        ("title", "two\nlines"),
        ("referer", "two\rlines"),
    ],
)
def test_settings_that_cannot_be_sent_are_refused(setting: str, value: str) -> None:
    with pytest.raises(ValueError, match=setting):
        OpenRouterConfig.model_validate({"listen": "127.0.0.1:0", "models": [], setting: value})
