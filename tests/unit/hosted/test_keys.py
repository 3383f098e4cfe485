"""API keys: cleaned, refused if they cannot be sent, and shown in no error, log or reply."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from arena_llm import AsyncClient
from tests.support.upstreams.answers import repeating
from tests.support.upstreams.server import Fault, Reply
from tests.unit.common.hosted.test_keys import UNSENDABLE
from tests.unit.hosted.conftest import (
    OPENAI_FORMAT,
    STREAMED,
    Provider,
    Start,
    call,
    fail,
    read_stream,
)

#: A key unlike any known shape of keys.
PLAIN_KEY = "m12345678"


def repeat_key(key: str) -> list[Fault]:
    """Errors in which a provider repeats the key, a part of it, or an encoding of it."""
    masked = f"{key[:8]}****{key[-4:]}"
    basic = base64.b64encode(f"user:{key}".encode()).decode()
    return [
        *(Fault(status, f"Wrong key {key}, not {masked}") for status in (400, 401, 403, 404, 500)),
        Fault(400, f"Authorization: Bearer {key} is wrong", error={"code": key}),
        Fault(403, error={"metadata": {"raw": f'{{"key": "{key}"}}', "provider_name": key}}),
        Fault(403, error={"metadata": {"error_type": key, "reasons": [key]}}),
        Fault(400, f"Basic {basic}"),
        Fault(body=f'{{"choices": "{key}"}}'.encode()),
        Fault(body=key.encode(), content_type="text/html"),
        Fault(502, body=key.encode(), content_type="text/html"),
    ]


@STREAMED
async def test_a_repeated_key_is_hidden(
    start: Start,
    upstream: Any,
    provider: Provider,
    streamed: bool,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with start(max_attempts=1) as llm:
        faults = repeat_key(provider.key)
        if provider.service == "openrouter":  # OpenAI's SDK, at level DEBUG, logs the header
            faults.append(Fault(body=b"x", content_type=f"text/{provider.key}"))
        for fault in faults:
            upstream.default = fault
            error = await fail(llm, streamed, provider.model)
            shown = f"{error!r} {error.message} {vars(error)}"
            assert provider.key not in shown, fault
            assert provider.key[-8:] not in shown, fault
    async with start(key=f"{provider.key}-wrong", max_attempts=1) as llm:
        error = await fail(llm, streamed, provider.model)
        assert error.reason == "API_KEY_REJECTED"
        assert f"put a valid {provider.variable} into .env" in error.message
        assert provider.key not in error.message
    logged = "".join(capfd.readouterr()) + caplog.text
    assert provider.key not in logged
    assert provider.key[-8:] not in logged


@STREAMED
@OPENAI_FORMAT
async def test_a_key_inside_an_answer_is_hidden_in_its_error(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    rows = repeating(provider.key)
    if streamed and provider.service == "litellm":
        del rows["the model"]  # litellm reports the requested model
    async with start() as llm:
        for name, odd in rows.items():
            upstream.default = odd.fault(streamed)
            error = await fail(llm, streamed, provider.model)
            assert (error.code, error.reason) == odd.expected, name
            assert "[key]" in error.message
            assert provider.key not in f"{error!r} {error.message} {error.metadata}"


async def test_replies_and_logs_have_neither_key_nor_prompt(
    llm: AsyncClient, upstream: Any, provider: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    prompt = "the secret prompt"
    shown = [
        await llm.generate(provider.model, prompt),
        await llm.is_available(provider.model),
        list(await llm.list_models()),
    ]
    upstream.enqueue(Reply("The answer"))
    shown += await read_stream(llm.stream(provider.model, prompt))
    logged = "".join(capfd.readouterr())
    assert "call" in logged
    for text in (*map(repr, shown), logged):
        assert provider.key not in text
        assert prompt not in text


@pytest.fixture
async def unlocked(provider: Provider) -> AsyncIterator[Any]:
    """The fake provider, accepting every key."""

    class Unlocked(provider.upstream):  # type: ignore[name-defined, misc]
        async def special(self, call: Any) -> Any:
            response = await super().special(call)
            return None if response is not None and response.status == 401 else response

    async with Unlocked() as server:
        yield server


@STREAMED
@pytest.mark.parametrize("form", ["  {} ", "{}\r\n", '"{}"', "\t{}\n"])
async def test_blanks_and_quotes_around_a_key_are_removed(
    start: Start, unlocked: Any, provider: Provider, form: str, streamed: bool
) -> None:
    """The provider gets the bare key, and a repeated one is hidden."""
    async with start(key=form.format(PLAIN_KEY), url=unlocked.url, max_attempts=1) as llm:
        assert await call(llm, streamed, provider.model) == "ok"
        unlocked.enqueue(Fault(401, f"no such key: {PLAIN_KEY}"))
        error = await fail(llm, streamed, provider.model)
    assert error.reason == "API_KEY_REJECTED"
    headers = [value.removeprefix("Bearer ") for value in unlocked.history[0].headers.values()]
    assert PLAIN_KEY in headers or f"key={PLAIN_KEY}" in unlocked.history[0].query
    assert PLAIN_KEY not in f"{error!r} {error.message} {error.metadata}"


@pytest.mark.parametrize("value", UNSENDABLE.values(), ids=UNSENDABLE)
async def test_a_key_that_cannot_be_sent(
    start: Start,
    upstream: Any,
    provider: Provider,
    value: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """is_available and each call name the variable. The provider is not asked."""
    async with start(key=value) as llm:
        answer = await llm.is_available(provider.model)
        errors = [await fail(llm, streamed, provider.model) for streamed in (False, True)]
        await llm.list_models()
    assert (answer.available, answer.state) == (False, "misconfigured")
    assert answer.reason == "API_KEY_REJECTED"
    assert answer.detail.startswith(f"{provider.variable} holds ")
    for error in errors:
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "API_KEY_REJECTED")
        assert error.metadata["variable"] == provider.variable
        assert value not in f"{error!r} {error.metadata} {answer.detail}"
    assert not upstream.history
    logged = "".join(capfd.readouterr())
    assert f"variable={provider.variable}" in logged
    assert value not in logged


@pytest.mark.parametrize("empty", ["", "  ", "\r\n", '""'])
async def test_an_empty_variable_is_not_a_key(
    start: Start, upstream: Any, provider: Provider, empty: str
) -> None:
    async with start(key=empty) as llm:
        answer = await llm.is_available(provider.model)
        errors = [await fail(llm, streamed, provider.model) for streamed in (False, True)]
        assert [model.name for model in await llm.list_models()] == [provider.model]
    assert (answer.available, answer.reason) == (False, "API_KEY_MISSING")
    assert provider.variable in answer.detail
    for error in errors:
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "API_KEY_MISSING")
        assert error.metadata["variable"] == provider.variable
    assert not upstream.history


@STREAMED
@OPENAI_FORMAT
async def test_a_user_and_password_in_the_address_are_hidden(
    start: Start, upstream: Any, unlocked: Any, provider: Provider, streamed: bool
) -> None:
    url = unlocked.url.replace("http://", "http://someone:hunter2hunter2@")
    async with start(url=url, max_attempts=1) as llm:
        unlocked.default = Fault(400, "not hunter2hunter2, not someone")
        error = await fail(llm, streamed, provider.model)
        answer = await llm.is_available(provider.model)
    assert "hunter2" not in f"{error!r} {error.message} {error.metadata} {answer!r}"
