"""API keys and addresses of litellm's providers: which is needed, which is used."""

from __future__ import annotations

from typing import Any

import pytest

from arena_llm import AsyncClient
from tests.support.upstreams.server import Fault
from tests.unit.hosted.conftest import OPENAI, STREAMED, Start, call, fail

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
async def test_a_missing_key_is_named(
    start: Start, monkeypatch: pytest.MonkeyPatch, upstream: Any, model: str, variable: str
) -> None:
    name = f"litellm_{model}"
    async with start({"name": "litellm_openai/other"}, key="") as llm:
        answer = await llm.is_available(name)
        error = await fail(llm, False, name)
        assert (await fail(llm, True, name)).reason == error.reason
    assert not answer.available
    assert (answer.state, answer.reason) == ("misconfigured", "API_KEY_MISSING")
    assert variable in answer.detail
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "API_KEY_MISSING")
    assert error.metadata["variable"] == variable
    assert not upstream.history
    monkeypatch.setenv(variable, "planted")
    async with start({"name": "litellm_openai/other"}, key=OPENAI.key) as llm:
        assert (await llm.is_available(name)).state == "ready"


async def test_a_users_own_server_needs_no_key(start: Start) -> None:
    model = "litellm_hosted_vllm/mine"
    async with start({"name": model, "api_base": "http://127.0.0.1:1"}) as llm:
        assert (await llm.is_available(model)).state == "ready"


@pytest.mark.parametrize("server", ["hosted_vllm", "lm_studio", "litellm_proxy"])
async def test_a_users_own_server_needs_an_address(
    start: Start, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """Without one, litellm would send the prompt to api.openai.com."""
    model, variable = f"litellm_{server}/mine", f"{server.upper()}_API_BASE"
    async with start() as llm:
        answer = await llm.is_available(model)
        error = await fail(llm, False, model)
    assert not answer.available
    assert (error.reason, error.metadata["variable"]) == ("API_KEY_MISSING", variable)
    assert variable in answer.detail
    monkeypatch.setenv(variable, "http://127.0.0.1:1/v1")
    monkeypatch.setenv("LITELLM_PROXY_API_KEY", "planted")
    async with start(max_attempts=1) as llm:
        assert (await llm.is_available(model)).available
        assert (await fail(llm, False, model)).reason == "UPSTREAM_UNAVAILABLE"


async def test_a_server_without_a_known_address_is_misconfigured(start: Start) -> None:
    """litellm would send its prompts to api.openai.com, too."""
    model = "litellm_xinference/mine"
    entry = {"name": model, "key_variable": OPENAI.variable, "api_base": None}
    async with start(entry) as llm:
        error = await fail(llm, False, model)
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "MODEL_MISCONFIGURED")
    assert "api_base" in error.message


async def test_another_variable_of_a_key_is_accepted(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "planted")
    monkeypatch.setenv("TOGETHERAI_API_KEY", "planted")
    async with start() as llm:
        for model in ("litellm_gemini/gemini-2.5-flash", "litellm_together_ai/a/b"):
            assert (await llm.is_available(model)).state == "ready"


async def test_an_entry_can_name_its_variable(
    start: Start, monkeypatch: pytest.MonkeyPatch, upstream: Any
) -> None:
    entry = {"key_variable": "MY_SERVER_API_KEY"}
    async with start(entry, key="sk-the-usual-one") as llm:
        assert (await fail(llm, False, MODEL)).metadata["variable"] == "MY_SERVER_API_KEY"
    monkeypatch.setenv("MY_SERVER_API_KEY", OPENAI.key)
    async with start(entry, key="sk-the-usual-one") as llm:
        assert (await llm.is_available(MODEL)).state == "ready"
        assert await call(llm, False, MODEL) == "ok"
    assert upstream.history[0].headers["Authorization"] == f"Bearer {OPENAI.key}"


async def test_an_unknown_provider(llm: AsyncClient, upstream: Any) -> None:
    error = await fail(llm, False, "litellm_gropq/llama")
    assert (error.code, error.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert "did you mean groq?" in error.message
    answer = await llm.is_available("litellm_gropq/llama")
    assert (answer.available, answer.reason) == (False, "MODEL_NOT_FOUND")
    error = await fail(llm, False, "litellm_huggingface/http://elsewhere.invalid/x")
    assert error.reason == "INVALID_REQUEST"


async def test_an_unusable_key_that_litellms_tables_do_not_list(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, variable = "litellm_maritalk/sabia", "MARITALK_API_KEY"
    monkeypatch.setenv(variable, "m1234\n5678")
    async with start() as llm:
        assert (await llm.is_available(model)).detail.startswith(variable)
        assert (await fail(llm, False, model)).metadata["variable"] == variable


async def test_another_variable_of_a_key_is_named_if_it_is_unusable(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "m1234\u00fc5678")
    async with start() as llm:
        error = await fail(llm, False, "litellm_gemini/gemini-2.5-flash")
    assert error.reason == "API_KEY_MISSING"
    assert "GOOGLE_API_KEY holds a character outside ASCII at place 6 of 10" in error.message


@STREAMED
async def test_a_key_in_an_address_is_hidden(start: Start, upstream: Any, streamed: bool) -> None:
    base = upstream.url.replace("http://", "http://someone:hunter2hunter2@") + "?key=k-12345678"
    async with start({"api_base": base}, max_attempts=1) as llm:
        upstream.default = Fault(400, "not hunter2hunter2, not k-12345678, not someone")
        error = await fail(llm, streamed, MODEL)
    for secret in ("hunter2hunter2", "k-12345678"):
        assert secret not in f"{error!r} {error.message} {error.metadata}"


async def test_a_key_in_the_entrys_parameters_is_hidden(start: Start, upstream: Any) -> None:
    headers = {"X-Gateway": "gateway-12345678", "Proxy-Auth": "Bearer hunter2hunter2"}
    async with start({"parameters": {"extra_headers": headers}}, max_attempts=1) as llm:
        upstream.default = Fault(400, "not gateway-12345678, not hunter2hunter2")
        error = await fail(llm, False, MODEL)
    assert "gateway-12345678" in upstream.history[0].headers.values()
    assert "gateway-1" not in error.message
    assert "hunter2" not in error.message


async def test_the_openrouter_services_key_is_not_requested(start: Start) -> None:
    model = "litellm_openrouter/a/b"
    async with start() as llm:
        error = await fail(llm, False, model)
        assert (error.reason, error.metadata["variable"]) == (
            "API_KEY_MISSING",
            "OPENROUTER_API_KEY",
        )
        assert "openrouter_a/b" in error.message
        assert "key_variable" in (await llm.is_available(model)).detail
