"""Which parameters a model takes, by litellm's tables, and what a request may not steer."""

from __future__ import annotations

from typing import Any

import pytest

from arena_llm import AsyncClient
from services.common.config import ConfigError, load_config
from services.litellm.config import LiteLlmConfig
from tests.unit.litellm.conftest import OPENAI, Provider, Start, failed

MODEL = OPENAI.model


@pytest.mark.parametrize(
    ("provider", "parameter", "value"),
    [
        ("openai", "top_k", 5),
        ("anthropic", "seed", 7),
        ("anthropic", "logprobs", 2),
        ("anthropic", "presence_penalty", 0.5),
        ("anthropic", "frequency_penalty", 0.5),
        ("gemini", "logprobs", 2),
    ],
    indirect=["provider"],
)
async def test_a_parameter_that_the_model_does_not_take(
    start: Start, upstream: Any, provider: Provider, parameter: str, value: Any
) -> None:
    async with start() as llm:
        for streamed in (False, True):
            error = await failed(llm, streamed, model=provider.model, **{parameter: value})
            assert (error.code, error.reason) == ("UNIMPLEMENTED", "UNSUPPORTED")
            assert error.field == f"config.{parameter}"
            assert error.metadata["parameter"] == parameter
    assert not upstream.history
    async with start({"drop_params": [parameter]}) as llm:
        await llm.generate(provider.model, "hi", **{parameter: value})
    assert parameter not in upstream.history[0].body


async def test_a_value_that_the_model_does_not_take(start: Start, upstream: Any) -> None:
    model = "litellm_openai/o4-mini"
    async with start({"name": model}) as llm:
        error = await failed(llm, model=model, temperature=0.5)
    assert (error.code, error.reason) == ("UNIMPLEMENTED", "UNSUPPORTED")
    assert "temperature" in error.message
    assert not upstream.history


@pytest.mark.parametrize("provider", ["anthropic", "gemini"], indirect=True)
async def test_top_k_where_the_provider_has_it(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    await llm.generate(provider.model, "hi", top_k=5)
    body = upstream.history[0].body
    assert (body.get("generationConfig") or body)["top_k"] == 5


@pytest.mark.parametrize(
    ("model", "name"),
    [("gpt-4o-mini", "max_tokens"), ("o4-mini", "max_completion_tokens"), ("own", "max_tokens")],
)
async def test_the_name_of_max_tokens(start: Start, upstream: Any, model: str, name: str) -> None:
    async with start({"name": f"litellm_openai/{model}"}) as llm:
        await llm.generate(f"litellm_openai/{model}", "hi", max_tokens=9)
    body = upstream.history[0].body
    assert {key: value for key, value in body.items() if "tokens" in key} == {name: 9}


async def test_the_entrys_parameters_and_the_requests(start: Start, upstream: Any) -> None:
    entry = {"parameters": {"temperature": 0.3, "user": "arena"}}
    async with start(entry) as llm:
        await llm.generate(MODEL, "hi")
        await llm.generate(MODEL, "hi", temperature=0.9)
    first, second = (call.body for call in upstream.history)
    assert (first["temperature"], first["user"]) == (0.3, "arena")
    assert (second["temperature"], second["user"]) == (0.9, "arena")


@pytest.mark.parametrize(
    "option",
    [
        *("api_key", "api_base", "base_url", "stream", "stream_options", "model", "messages"),
        *("n", "extra_headers", "headers", "extra_body", "timeout", "max_retries", "metadata"),
        *("num_retries", "custom_llm_provider", "mock_response", "fallbacks", "drop_params"),
        *("aws_secret_access_key", "azure_ad_token", "vertex_credentials", "ssl_verify"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_what_provider_options_may_not_steer(
    llm: AsyncClient, upstream: Any, option: str, streamed: bool
) -> None:
    error = await failed(llm, streamed, provider_options={option: "http://elsewhere.invalid"})
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert error.field == f"provider_options.{option}"
    assert not upstream.history


async def test_what_the_request_says_is_not_said_twice(llm: AsyncClient) -> None:
    error = await failed(llm, temperature=0.5, provider_options={"temperature": 1.0})
    assert error.field == "provider_options.temperature"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("api_base: not-a-url", "api_base"),
        ("parameters: {api_key: x}", "api_key: the service sets that itself"),
        ("drop_params: [model]", "drop_params"),
        ("key_variable: PATH", "key_variable"),
        ("colour: red", "colour"),
    ],
)
def test_a_wrong_entry(tmp_path: Any, entry: str, problem: str) -> None:
    file = tmp_path / "litellm_models.yaml"
    lines = ["listen: 127.0.0.1:0", "models:", f"  - name: {MODEL}", f"    {entry}"]
    file.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=problem) as caught:
        load_config(file, LiteLlmConfig)
    assert str(file) in str(caught.value)
