"""Keys: which is missing, which is used, and that none is ever told."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from arena_llm import AsyncClient
from tests.support.upstreams.answers import repeating
from tests.support.upstreams.server import Fault
from tests.unit.common.hosted.test_keys import UNSENDABLE
from tests.unit.litellm.conftest import OPENAI, PROVIDERS, Provider, Start, call, failed

MODEL = OPENAI.model


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("openai/gpt-4o-mini", "OPENAI_API_KEY"),
        ("anthropic/claude-sonnet-4-5", "ANTHROPIC_API_KEY"),
        ("groq/llama-3.1-8b-instant", "GROQ_API_KEY"),
        ("together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", "TOGETHER_API_KEY"),
        ("fireworks_ai/accounts/fireworks/models/gpt-oss-20b", "FIREWORKS_API_KEY"),
        ("gemini/gemini-2.5-flash", "GEMINI_API_KEY"),
        ("mistral/mistral-small-latest", "MISTRAL_API_KEY"),
        ("deepseek/deepseek-chat", "DEEPSEEK_API_KEY"),
        ("perplexity/sonar", "PERPLEXITYAI_API_KEY"),
        ("sambanova/some-model", "SAMBANOVA_API_KEY"),
    ],
)
async def test_a_missing_key_is_named_and_nobody_asked(
    start: Start, monkeypatch: pytest.MonkeyPatch, upstream: Any, model: str, variable: str
) -> None:
    name = f"litellm_{model}"
    async with start({"name": "litellm_openai/other"}, key="") as llm:
        answer = await llm.is_available(name)
        error = await failed(llm, model=name)
        assert (await failed(llm, True, model=name)).reason == error.reason
    assert not answer.available
    assert (answer.state, answer.reason) == ("misconfigured", "API_KEY_MISSING")
    assert variable in answer.detail
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "API_KEY_MISSING")
    assert error.metadata["variable"] == variable
    assert not upstream.history
    monkeypatch.setenv(variable, "planted")
    async with start({"name": "litellm_openai/other"}, key=OPENAI.key) as llm:
        assert (await llm.is_available(name)).state == "ready"


async def test_a_server_of_ones_own_needs_no_key(start: Start) -> None:
    model = "litellm_hosted_vllm/mine"
    async with start({"name": model, "api_base": "http://127.0.0.1:1"}) as llm:
        assert (await llm.is_available(model)).state == "ready"


@pytest.mark.parametrize("server", ["hosted_vllm", "lm_studio", "litellm_proxy"])
async def test_a_server_of_ones_own_needs_an_address(
    start: Start, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """litellm would send the prompt to api.openai.com."""
    model, variable = f"litellm_{server}/mine", f"{server.upper()}_API_BASE"
    async with start() as llm:
        answer = await llm.is_available(model)
        error = await failed(llm, model=model)
    assert not answer.available
    assert (error.reason, error.metadata["variable"]) == ("API_KEY_MISSING", variable)
    assert variable in answer.detail
    monkeypatch.setenv(variable, "http://127.0.0.1:1/v1")
    monkeypatch.setenv("LITELLM_PROXY_API_KEY", "planted")
    async with start(max_attempts=1) as llm:
        assert (await llm.is_available(model)).available
        assert (await failed(llm, model=model)).reason == "UPSTREAM_UNAVAILABLE"


async def test_a_prompt_goes_to_nobody_else(start: Start) -> None:
    """Of another server of one's own, whose address litellm has not got either."""
    model = "litellm_xinference/mine"
    entry = {"name": model, "key_variable": OPENAI.variable, "api_base": None}
    async with start(entry) as llm:
        error = await failed(llm, model=model)
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "MODEL_MISCONFIGURED")
    assert "api_base" in error.message


async def test_another_name_of_a_key_will_do(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "planted")
    monkeypatch.setenv("TOGETHERAI_API_KEY", "planted")
    async with start() as llm:
        for model in ("litellm_gemini/gemini-2.5-flash", "litellm_together_ai/a/b"):
            assert (await llm.is_available(model)).state == "ready"


async def test_a_variable_of_the_entrys_own(
    start: Start, monkeypatch: pytest.MonkeyPatch, upstream: Any
) -> None:
    entry = {"key_variable": "MY_SERVER_API_KEY"}
    async with start(entry, key="sk-the-usual-one") as llm:
        assert (await failed(llm)).metadata["variable"] == "MY_SERVER_API_KEY"
    monkeypatch.setenv("MY_SERVER_API_KEY", OPENAI.key)
    async with start(entry, key="sk-the-usual-one") as llm:
        assert (await llm.is_available(MODEL)).state == "ready"
        assert await call(llm, streamed=False) == "ok"
    assert upstream.history[0].headers["Authorization"] == f"Bearer {OPENAI.key}"


async def test_a_name_that_leads_nowhere(llm: AsyncClient, upstream: Any) -> None:
    error = await failed(llm, model="litellm_gropq/llama")
    assert (error.code, error.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert "did you mean groq?" in error.message
    answer = await llm.is_available("litellm_gropq/llama")
    assert (answer.available, answer.reason) == (False, "MODEL_NOT_FOUND")
    error = await failed(llm, model="litellm_huggingface/http://elsewhere.invalid/x")
    assert error.reason == "INVALID_REQUEST"


async def test_an_unlisted_model_where_none_may_be(start: Start) -> None:
    async with start(allow_unlisted=False) as llm:
        error = await failed(llm, model="litellm_openai/gpt-4o")
        assert error.reason == "MODEL_NOT_FOUND"
        assert MODEL in error.message  # the nearest name
        assert [model.name for model in await llm.list_models()] == [MODEL]


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_a_key_is_never_told(
    start: Start,
    upstream: Any,
    provider: Provider,
    streamed: bool,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever the provider says: with the key, a part of it, or in a broken answer."""
    caplog.set_level(logging.DEBUG)
    said = f"Incorrect key {provider.key}, not {provider.key[:8]}****{provider.key[-4:]}"
    async with start(max_attempts=2) as llm:
        for status in (400, 401, 403, 404, 429, 500):
            upstream.enqueue(*[Fault(status, said)] * (2 if status >= 429 else 1))
            error = await failed(llm, streamed, model=provider.model)
            assert provider.key not in f"{error!r} {error.message} {error.metadata}"
            assert provider.key[-8:] not in error.message
        upstream.enqueue(*[Fault(body=said.encode(), content_type="text/html")] * 2)
        error = await failed(llm, streamed, model=provider.model)
        assert provider.key not in error.message
    async with start(key=f"{provider.key}-wrong", max_attempts=1) as llm:
        error = await failed(llm, streamed, model=provider.model)
        assert error.reason == "API_KEY_REJECTED"
        assert provider.key not in error.message
    output = capsys.readouterr()
    assert provider.key not in output.out + output.err + caplog.text


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_no_error_repeats_a_key_of_an_answer(
    start: Start, upstream: Any, streamed: bool
) -> None:
    rows = repeating(OPENAI.key)
    if streamed:
        del rows["the model"]  # litellm names the one that was asked for
    async with start() as llm:
        for name, odd in rows.items():
            upstream.default = odd.fault(streamed)
            error = await failed(llm, streamed)
            assert (error.code, error.reason) == odd.expected, name
            assert "[key]" in error.message
            assert OPENAI.key not in f"{error!r} {error.message} {error.metadata}"


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize("form", ["  {} ", "{}\r\n", '"{}"', "\t{}\n"])
@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_a_key_with_blanks_around_it(
    start: Start, upstream: Any, provider: Provider, form: str, streamed: bool
) -> None:
    """It is sent without them, and what the provider repeats of it is hidden."""
    async with start(key=form.format(provider.key), max_attempts=1) as llm:
        assert (await llm.is_available(provider.model)).state == "ready"
        assert await call(llm, streamed, provider.model) == "ok"
    # Unlike any key of a known shape.
    async with start(key=form.format("m12345678"), max_attempts=1) as llm:
        upstream.enqueue(Fault(401, "no such key: m12345678"))
        error = await failed(llm, streamed, model=provider.model)
        assert error.reason == "API_KEY_REJECTED"
        assert "m12345678" not in f"{error!r} {error.message} {error.metadata}"


@pytest.mark.parametrize("value", UNSENDABLE.values(), ids=UNSENDABLE)
@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_a_key_that_cannot_be_sent(
    start: Start,
    upstream: Any,
    provider: Provider,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The check says so, not only the call; both name the variable and nobody is asked."""
    for entry, variable in (
        ({}, provider.variable),
        ({"key_variable": "OWN_API_KEY"}, "OWN_API_KEY"),
    ):
        monkeypatch.setenv("OWN_API_KEY", value)
        async with start(entry, key=value) as llm:
            answer = await llm.is_available(provider.model)
            errors = [await failed(llm, streamed, model=provider.model) for streamed in (0, 1)]
        assert (answer.available, answer.state) == (False, "misconfigured")
        assert answer.reason == "API_KEY_REJECTED"
        assert answer.detail.startswith(f"{variable} holds ")
        for error in errors:
            assert (error.code, error.reason) == ("FAILED_PRECONDITION", "API_KEY_REJECTED")
            assert error.metadata["variable"] == variable
            assert value not in f"{error!r} {error.metadata} {answer.detail}"
    assert not upstream.history
    logged = "".join(capfd.readouterr())
    assert f"variable={provider.variable}" in logged
    assert value not in logged


async def test_a_key_of_which_litellms_tables_know_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, variable = "litellm_maritalk/sabia", "MARITALK_API_KEY"
    monkeypatch.setenv(variable, "m1234\n5678")
    async with start() as llm:
        assert (await llm.is_available(model)).detail.startswith(variable)
        assert (await failed(llm, model=model)).metadata["variable"] == variable


async def test_another_name_of_a_key_is_named_where_it_cannot_be_sent(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "m1234\u00fc5678")
    async with start() as llm:
        error = await failed(llm, model="litellm_gemini/gemini-2.5-flash")
    assert error.reason == "API_KEY_MISSING"
    assert "GOOGLE_API_KEY holds a character outside ASCII at place 6 of 10" in error.message


@pytest.mark.parametrize("empty", ["", "  ", "\r\n", '""'])
async def test_an_empty_variable_is_no_key(start: Start, upstream: Any, empty: str) -> None:
    async with start(key=empty) as llm:
        assert (await llm.is_available(MODEL)).reason == "API_KEY_MISSING"
        assert (await failed(llm)).reason == "API_KEY_MISSING"
    assert not upstream.history


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_a_key_in_an_address(start: Start, upstream: Any, streamed: bool) -> None:
    base = upstream.url.replace("http://", "http://someone:hunter2hunter2@") + "?key=k-12345678"
    async with start({"api_base": base}, max_attempts=1) as llm:
        upstream.default = Fault(400, "not hunter2hunter2, not k-12345678, not someone")
        error = await failed(llm, streamed)
    for secret in ("hunter2hunter2", "k-12345678"):
        assert secret not in f"{error!r} {error.message} {error.metadata}"


async def test_a_key_among_the_entrys_parameters(start: Start, upstream: Any) -> None:
    headers = {"X-Gateway": "gateway-12345678", "Proxy-Auth": "Bearer hunter2hunter2"}
    async with start({"parameters": {"extra_headers": headers}}, max_attempts=1) as llm:
        upstream.default = Fault(400, "not gateway-12345678, not hunter2hunter2")
        error = await failed(llm)
    assert "gateway-12345678" in upstream.history[0].headers.values()
    assert "gateway-1" not in error.message
    assert "hunter2" not in error.message


async def test_the_key_of_the_openrouter_service_is_not_expected(start: Start) -> None:
    model = "litellm_openrouter/a/b"
    async with start() as llm:
        error = await failed(llm, model=model)
        assert (error.reason, error.metadata["variable"]) == (
            "API_KEY_MISSING",
            "OPENROUTER_API_KEY",
        )
        assert "openrouter_a/b" in error.message
        assert "key_variable" in (await llm.is_available(model)).detail
