"""The arguments of litellm's calls: parameters that a model takes, and reserved options."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import pytest

from arena_llm import AsyncClient
from arena_llm.types import PARAMETERS, UnknownPrice
from services.common.config import ConfigError, load_config
from services.common.hosted.errors import OPENAI_CODES
from services.litellm.config import LiteLlmConfig
from services.litellm.errors import TYPES
from tests.support.upstreams.answers import EVENTS, UNREADABLE, Odd, dump, stream
from tests.support.upstreams.checks import result
from tests.support.upstreams.server import Fault
from tests.unit.hosted.conftest import OPENAI, STREAMED, Provider, Start, call, fail, read_stream

MODEL = OPENAI.model


@pytest.mark.parametrize(
    ("provider", "parameter", "value"),
    [
        ("openai", "top_k", 5),
        ("openai", "min_p", 0.5),
        ("gemini", "repetition_penalty", 2.0),
        ("anthropic", "seed", 7),
        ("anthropic", "top_logprobs", 2),
        ("anthropic", "presence_penalty", 0.5),
        ("anthropic", "frequency_penalty", 0.5),
        ("gemini", "top_logprobs", 2),
    ],
    indirect=["provider"],
)
async def test_a_parameter_that_the_model_does_not_take(
    start: Start, upstream: Any, provider: Provider, parameter: str, value: Any
) -> None:
    async with start() as llm:
        for streamed in (False, True):
            error = await fail(llm, streamed, provider.model, **{parameter: value})
            assert (error.code, error.reason) == ("UNIMPLEMENTED", "UNSUPPORTED")
            assert error.field == PARAMETERS[parameter].path
            assert error.metadata["parameter"] == parameter
    assert not upstream.history
    async with start({"drop_params": [parameter]}) as llm:
        await llm.generate(provider.model, "hi", **{parameter: value})
    assert parameter not in upstream.history[0].body


@pytest.mark.parametrize(
    ("provider", "option", "value"),
    [
        ("openai", "temperature", 2.5),
        ("openai", "stop", ["a", "b", "c", "d", "e"]),
        ("anthropic", "temperature", 1.5),
        ("gemini", "temperature", 2.5),
        ("gemini", "seed", 2**31),
    ],
    indirect=["provider"],
)
async def test_a_value_over_the_providers_limit_is_refused_by_name(
    llm: AsyncClient, upstream: Any, provider: Provider, option: str, value: Any
) -> None:
    error = await fail(llm, False, provider.model, **{option: value})
    assert (error.reason, error.field) == ("UNSUPPORTED", f"config.{option}")
    assert not upstream.history


@pytest.mark.parametrize(
    ("option", "value"),
    [("min_p", 0.1), ("repetition_penalty", 1.2), ("top_k", 5), ("logit_bias", {7: 1.0})],
)
async def test_servers_of_open_models_take_all_sampling_parameters(
    start: Start, upstream: Any, option: str, value: Any
) -> None:
    model = "litellm_hosted_vllm/mine"
    async with start({"name": model, "key_variable": "OPENAI_API_KEY"}) as llm:
        await llm.generate(model, "hi", **{option: value})
        error = await fail(llm, False, model, provider_options={option: value})
        assert error.field == "provider_options_json"
    assert upstream.history[0].body[option] == ({"7": 1.0} if option == "logit_bias" else value)


async def test_a_value_that_the_model_does_not_take(start: Start, upstream: Any) -> None:
    model = "litellm_openai/o4-mini"
    async with start({"name": model}) as llm:
        error = await fail(llm, False, model, temperature=0.5)
    assert (error.code, error.reason) == ("UNIMPLEMENTED", "UNSUPPORTED")
    assert "temperature" in error.message
    assert not upstream.history


@pytest.mark.parametrize("provider", ["anthropic", "gemini"], indirect=True)
async def test_top_k_of_a_provider_that_has_it(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    await llm.generate(provider.model, "hi", top_k=5)
    body = upstream.history[0].body
    assert (body.get("generationConfig") or body)["top_k"] == 5


@pytest.mark.parametrize(
    ("model", "name"),
    [("gpt-4o-mini", "max_tokens"), ("o4-mini", "max_completion_tokens"), ("own", "max_tokens")],
)
async def test_the_name_of_max_tokens_depends_on_the_model(
    start: Start, upstream: Any, model: str, name: str
) -> None:
    async with start({"name": f"litellm_openai/{model}"}) as llm:
        await llm.generate(f"litellm_openai/{model}", "hi", max_tokens=9)
    body = upstream.history[0].body
    assert {key: value for key, value in body.items() if "tokens" in key} == {name: 9}


async def test_the_request_takes_precedence_over_the_entrys_parameters(
    start: Start, upstream: Any
) -> None:
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
async def test_options_that_no_request_may_set(
    llm: AsyncClient, upstream: Any, option: str
) -> None:
    error = await fail(llm, False, MODEL, provider_options={option: "http://elsewhere.invalid"})
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert error.field == "provider_options_json"
    assert not upstream.history


async def test_an_option_cannot_repeat_a_parameter(llm: AsyncClient) -> None:
    error = await fail(llm, False, MODEL, temperature=0.5, provider_options={"temperature": 1.0})
    assert error.field == "provider_options_json"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("api_base: not-a-url", "api_base"),
        ("parameters: {api_key: x}", "api_key: the service sets that itself"),
        ("drop_params: [model]", "model: not a sampling parameter"),
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


async def test_the_whole_body(start: Start, upstream: Any) -> None:
    async with start({"allow_options": ["something_new"]}) as llm:
        await llm.generate(
            MODEL,
            "Your move?",
            temperature=0.1,
            stop=["\n"],
            session="game-1",
            labels={"player": "x"},
            provider_options={"service_tier": "flex", "something_new": {"deep": 1}},
        )
    (request,) = upstream.history
    assert request.body == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Your move?"}],
        "temperature": 0.1,
        "stop": ["\n"],
        "service_tier": "flex",
        "something_new": {"deep": 1},
        "prompt_cache_key": "game-1",
    }


@pytest.mark.parametrize(
    ("session", "options", "sent"),
    [
        ("", {}, None),
        ("game-1", {"prompt_cache_key": "mine"}, "mine"),
        ("x" * 64, {}, "x" * 64),
        ("x" * 65, {}, blake2b(b"x" * 65, digest_size=16).hexdigest()),
    ],
)
async def test_a_session_finds_the_same_cache(
    llm: AsyncClient, upstream: Any, session: str, options: dict[str, Any], sent: str | None
) -> None:
    await llm.generate(MODEL, "hi", session=session, provider_options=options)
    assert upstream.history[0].body.get("prompt_cache_key") == sent


async def test_another_server_gets_no_cache_key(start: Start, upstream: Any) -> None:
    """It might refuse the field, and a hint must not make a call fail."""
    model = "litellm_openai/no-such-model"
    async with start({"name": model}) as llm:
        await llm.generate(model, "hi", session="game-1")
    assert "prompt_cache_key" not in upstream.history[0].body


async def test_a_cost_without_a_price_is_unknown(start: Start, upstream: Any) -> None:
    model = "litellm_openai/no-such-model"
    async with start({"name": model}) as llm:
        whole = await llm.generate(model, "hi")
        _, streamed = await read_stream(llm.stream(model, "hi"))
        (listed,) = await llm.list_models()
    assert whole.usage.prompt_tokens == streamed.usage.prompt_tokens == 12
    assert whole.usage.cost_usd is streamed.usage.cost_usd is None
    assert isinstance(listed.price, UnknownPrice)


@STREAMED
async def test_dropped_log_probabilities_are_not_required(
    start: Start, upstream: Any, streamed: bool
) -> None:
    async with start({"drop_params": ["top_logprobs"]}) as llm:
        assert await call(llm, streamed, MODEL, top_logprobs=2) == "ok"


async def test_groqs_answers_may_lack_the_service_tier(start: Start, upstream: Any) -> None:
    """litellm requires it."""
    model = "litellm_groq/llama-3.3-70b-versatile"
    async with start({"name": model, "key_variable": "OPENAI_API_KEY"}) as llm:
        for streamed in (False, True):
            upstream.default = Odd("ok").fault(streamed)
            assert await result(llm, model, streamed) == "ok"


@pytest.mark.parametrize("provider", ["gemini"], indirect=True)
async def test_several_candidates_of_gemini_are_not_mixed(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    def event(*parts: tuple[int, str], **more: Any) -> dict[str, Any]:
        candidates = [
            {"index": index, "content": {"parts": [{"text": text}]}, **more}
            for index, text in parts
        ]
        return {"candidates": candidates, "usageMetadata": {}}

    end = {"finishReason": "STOP"}
    upstream.default = Fault(body=dump(event((1, "no"), (0, "ok"), **end)))
    assert await result(llm, provider.model, False) == "ok"
    beside = [event((0, "o"), (1, "n")), event((1, "o"), (0, "k"), **end)]
    in_turn = [event((0, "o")), event((1, "n")), event((0, "k"), **end)]
    for chunks, expected in ((beside, "ok"), (in_turn, UNREADABLE)):
        upstream.default = Fault(body=stream(*chunks), content_type=EVENTS)
        assert await result(llm, provider.model, True) == expected


@STREAMED
@pytest.mark.parametrize("fault", [Fault(429), Fault(500), Fault(reset=True)])
@pytest.mark.parametrize("name", ["baseten", "ai21_chat", "openai"])
async def test_one_attempt_is_one_request(
    start: Start, upstream: Any, name: str, fault: Fault, streamed: bool
) -> None:
    """OpenAI's SDK would retry, because litellm does not always pass our max_retries to it."""
    upstream.default = fault
    model = f"litellm_{name}/some-model"
    quick = {"max_attempts": 1, "max_retry_after_seconds": 0.001}
    async with start({"name": model, "key_variable": "OPENAI_API_KEY"}, **quick) as llm:
        error = await fail(llm, streamed, model)
    assert error.code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
    assert error.report is not None
    assert len(upstream.history) == len(error.report.attempts) <= 2


def test_every_error_type_is_a_class_of_litellm() -> None:
    import litellm

    classes = {name for name in TYPES.keys() - OPENAI_CODES.keys() if name[0].isupper()}
    assert not [name for name in classes if not hasattr(litellm.exceptions, name)]
