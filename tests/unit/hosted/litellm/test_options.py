"""No option and no model name of a caller sends a call, or a key, to another server."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from arena_llm import ArenaError, AsyncClient
from services.common.errors import InvalidRequest, UpstreamUnavailable
from services.common.hosted.config import Timeouts
from services.common.hosted.keys import Redactor
from services.litellm.config import BY_PROVIDER, LiteLlmConfig, allowed_options, is_reserved
from tests.unit.hosted.conftest import OPENAI, STREAMED, Provider, Start, call, fail

KEY = "planted-0123456789"
MODEL = OPENAI.model
EVERY_OPTION = allowed_options("").union(*BY_PROVIDER.values())


class Listener:
    """An HTTP server that records every request and answers 400."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    async def __aenter__(self) -> Listener:
        async def note(request: web.Request) -> web.Response:
            parts = [request.path_qs, *request.headers.values(), await request.text()]
            self.requests.append(" ".join(parts))
            return web.json_response({"error": {"message": "no"}}, status=400)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", note)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.origin = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@pytest.fixture
async def stranger() -> AsyncIterator[Listener]:
    """A server that must not get any request."""
    async with Listener() as listener:
        yield listener


@pytest.fixture
async def own(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    """The server that the environment names, for several kinds of providers."""
    async with Listener() as listener:
        for variable in (
            *("WATSONX_URL", "AZURE_API_BASE", "DATABRICKS_API_BASE", "OPENAI_API_BASE"),
            *("ANTHROPIC_API_BASE", "OLLAMA_API_BASE", "HOSTED_VLLM_API_BASE", "GROQ_API_BASE"),
        ):
            monkeypatch.setenv(variable, listener.origin)
        monkeypatch.setenv("NLP_CLOUD_API_BASE", f"{listener.origin}/")
        for variable in (
            *("WATSONX_TOKEN", "WATSONX_API_KEY", "AZURE_API_KEY", "DATABRICKS_API_KEY"),
            *("ANTHROPIC_API_KEY", "GROQ_API_KEY", "NLP_CLOUD_API_KEY"),
        ):
            monkeypatch.setenv(variable, KEY)
        monkeypatch.setenv("WATSONX_PROJECT_ID", "project")
        monkeypatch.setenv("AZURE_API_VERSION", "2024-10-21")
        yield listener


#: One provider for each kind of client in litellm.
PROVIDERS = ("openai", "anthropic", "watsonx_text", "azure", "ollama_chat", "nlp_cloud")
#: Names that steer litellm or one of its providers, some in other spellings.
STEERING = (
    *("url", "URL", "Url", "base_url", "api_base", "API_BASE", "api_key", "endpoint", "host"),
    *("headers", "extra_headers", "default_headers", "extra_body", "extra_query", "proxy"),
    *("client", "shared_session", "custom_llm_provider", "fallbacks", "model_list", "token"),
    *("aws_bedrock_runtime_endpoint", "aws_sts_endpoint", "vertex_credentials", "region_name"),
    *("azure_ad_token", "watsonx_url", "zen_api_key", "metadata", "mock_response", "hf_model_name"),
    *("use_litellm_proxy", "tools", "functions", "web_search_options", "litellm_metadata"),
    *("model", "messages", "stream", "prompt_id", "guardrails", "provider_options", "", " url"),
)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_caller_cannot_send_the_key_elsewhere(
    start: Start, own: Listener, stranger: Listener, name: str
) -> None:
    model = f"litellm_{name}/some-model"
    values = (stranger.origin, {"url": stranger.origin, "api_base": stranger.origin})
    async with start(max_attempts=1) as llm:
        for option, value in zip(STEERING, itertools.cycle(values), strict=False):
            error = await fail(llm, False, model, provider_options={option: value})
            assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
            assert error.field == "provider_options_json"
    assert not stranger.requests
    assert not [text for text in own.requests if "/api/show" not in text]  # of ollama


@pytest.mark.parametrize("name", PROVIDERS)
async def test_no_allowed_option_steers(
    start: Start, own: Listener, stranger: Listener, name: str
) -> None:
    """With any value, it goes to the provider's server or is refused."""
    model = f"litellm_{name}/some-model"
    names = ("url", "api_base", "base_url", "type", "headers", "server_url")
    values = (stranger.origin, {**dict.fromkeys(names, stranger.origin), "more": [stranger.origin]})
    async with start(max_attempts=1) as llm:
        for option in sorted(EVERY_OPTION):
            for value in values:
                with pytest.raises(ArenaError):
                    await llm.generate(model, "hi", provider_options={option: value})
    assert not stranger.requests
    assert own.requests


def test_no_allowed_option_is_an_argument_of_litellms_own() -> None:
    from services.litellm.catalogue import INTERNAL

    assert not EVERY_OPTION & INTERNAL
    assert not [name for name in EVERY_OPTION if is_reserved(name)]


def test_what_litellm_reads_is_not_allowed() -> None:
    """litellm's source reads these names from the options. A few only go to the provider."""
    import litellm

    names: set[str] = set()
    read = re.compile(r"(?:params|kwargs|config)(?:\.(?:get|pop)\(\s*|\[)[\"']([A-Za-z_]\w*)[\"']")
    for file in Path(litellm.__file__).parent.joinpath("llms").rglob("*.py"):
        names.update(read.findall(file.read_text(encoding="utf-8")))
    assert len(names) > 400
    passed_on = {
        *("chat_template_kwargs", "logit_bias", "prediction", "prompt_cache_key", "thinking"),
        *("reasoning_effort", "safety_identifier", "safety_settings", "service_tier", "user"),
        *("think", "verbosity", "repetition_penalty", "min_p", "decoding_method"),
        *("include_stop_sequences", "min_new_tokens", "length_penalty", "mirostat"),
        *("ignore_eos", "typical_p", "min_tokens", "repeat_penalty"),
    }
    assert names & EVERY_OPTION <= passed_on


async def test_an_entry_can_allow_more_options(start: Start, upstream: Any) -> None:
    async with start() as llm:
        error = await fail(llm, False, MODEL, provider_options={"something_new": 1})
        assert error.field == "provider_options_json"
        assert "allow_options" in error.message
    assert not upstream.history
    async with start({"allow_options": ["something_new"]}) as llm:
        await llm.generate(MODEL, "hi", provider_options={"something_new": {"deep": [1]}})
        error = await fail(llm, False, MODEL, provider_options={"metadata": {}})
        assert error.field == "provider_options_json"
    assert upstream.history[0].body["something_new"] == {"deep": [1]}


@pytest.mark.parametrize("name", ["api_base", "URL", "extra_headers", "aws_sts_endpoint", "model"])
def test_no_entry_can_allow_a_steering_option(name: str) -> None:
    entry = {"name": MODEL, "allow_options": [name]}
    with pytest.raises(ValueError, match=f"{name}: a request can never set that"):
        LiteLlmConfig.model_validate({"listen": "127.0.0.1:0", "models": [entry]})


@STREAMED
@pytest.mark.parametrize(
    ("provider", "options"),
    [
        ("openai", {"reasoning_effort": "low", "service_tier": "flex", "user": "u"}),
        ("anthropic", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ("gemini", {"safety_settings": [{"category": "a", "threshold": "b"}]}),
    ],
    indirect=["provider"],
)
async def test_options_of_the_provider(
    start: Start, upstream: Any, provider: Provider, options: dict[str, Any], streamed: bool
) -> None:
    """Each call is one request: its destination without options is found without a request."""
    model = "litellm_openai/gpt-5-mini" if provider is OPENAI else provider.model
    async with start({"name": model}) as llm:
        for _ in range(2):
            await call(llm, streamed, model, provider_options=options)
    assert len(upstream.history) == 2
    sent = str(upstream.history[0].body)
    assert all(str(word) in sent for word in ("low", "flex") if provider is OPENAI)
    assert "rehearsal" not in sent


@STREAMED
async def test_an_option_that_the_model_does_not_take(
    start: Start, upstream: Any, streamed: bool
) -> None:
    """litellm's advice to set drop_params is not passed on."""
    model = "litellm_openai/gpt-5-mini"
    async with start({"name": model}) as llm:
        error = await fail(llm, streamed, model, provider_options={"thinking": {}})
        assert (error.code, error.field) == ("UNIMPLEMENTED", "provider_options_json")
        assert "thinking" in error.message
        assert "drop_params" not in error.message
    assert not upstream.history


async def test_an_option_that_litellm_cannot_use(start: Start, own: Listener) -> None:
    """It fails in litellm before any request, and is not retried."""
    model = "litellm_watsonx/some-model"
    async with start(max_attempts=3) as llm:
        error = await fail(llm, False, model, provider_options={"min_tokens": 1})
        assert (error.code, error.field) == ("INVALID_ARGUMENT", "provider_options_json")
        assert "Traceback" not in error.message
    assert not own.requests


HOSTILE_NAMES = (
    *("bedrock/agentcore/arn:aws:bedrock-agentcore:{host}#:1:runtime/x", "azure/{host}?x"),
    *("bedrock/agentcore/arn:aws:bedrock-agentcore:evil.s3:1:runtime/x",),
    *("huggingface/{origin}/x", "openai/{origin}", "replicate/../../{host}", "ollama/..\\{host}"),
    *("bytez//{host}%23", "nlp_cloud/x y@{host}", "watsonx_text/deployment/..%2f{host}"),
)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
async def test_a_name_that_would_choose_the_server(
    start: Start, own: Listener, stranger: Listener, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    host = stranger.origin.removeprefix("http://")
    model = "litellm_" + name.format(host=host, origin=stranger.origin)
    async with start(max_attempts=1) as llm:
        error = await fail(llm, False, model)
        listed_only = name.startswith(("bedrock", "huggingface", "replicate"))
        code = "NOT_FOUND" if listed_only and "{host}?" not in name else "INVALID_ARGUMENT"
        assert error.code in (code, "INVALID_ARGUMENT")
        assert error.field == "model"
    assert not stranger.requests
    assert not own.requests


def test_all_names_that_litellm_knows_are_allowed() -> None:
    import litellm

    from services.litellm.catalogue import check_name

    for name in litellm.model_cost:
        if "*" not in name:  # a row for several models
            check_name(f"litellm_{name}")


@pytest.mark.parametrize(
    ("name", "steering"),
    [
        ("watsonx_text", "url"),
        ("watsonx", "base_url"),
        ("openai", "api_base"),
        ("hosted_vllm", "base_url"),
        ("nlp_cloud", "api_base"),  # over a synchronous client
    ],
)
@STREAMED
async def test_the_transport_refuses_another_server(
    own: Listener,
    stranger: Listener,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    steering: str,
    streamed: bool,
) -> None:
    """Even if the option was accepted."""
    from services.litellm.catalogue import LiteLlmCatalogue
    from services.litellm.upstream import CompletionArguments, LiteLlmUpstream

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    config = LiteLlmConfig.model_validate({"listen": "127.0.0.1:0", "models": []})
    model = await LiteLlmCatalogue(config).find(f"litellm_{name}/some-model")
    plain = {"model": f"{name}/some-model"}
    message = {"role": "user", "content": "hi"}
    arguments = {**plain, "messages": [message], steering: f"{stranger.origin}/"}
    completion = CompletionArguments(model, arguments, plain, Timeouts(10, 10))
    upstream = LiteLlmUpstream(config, Redactor([KEY]))

    async def ask() -> None:
        if streamed:
            _ = [
                chunk
                async for chunk in upstream.stream(completion, upstream.new_answer(completion))
            ]
        else:
            await upstream.complete(completion, upstream.new_answer(completion))

    try:
        with pytest.raises(InvalidRequest, match="would send the call to") as caught:
            await ask()
        assert caught.value.field == "provider_options_json"
        # The cached servers may be outdated. They are looked up again, with the same result.
        with pytest.raises(UpstreamUnavailable, match="would send the call to"):
            await ask()
        with pytest.raises(InvalidRequest, match="would send the call to"):
            await ask()
    finally:
        await upstream.aclose()
    assert not stranger.requests
    assert not own.requests


async def test_a_redirect_is_not_followed_with_the_key(
    start: Start, stranger: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a provider with a synchronous client. test_errors.py has the others."""

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"{stranger.origin}/elsewhere")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", redirect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("NLP_CLOUD_API_KEY", KEY)
    model = "litellm_nlp_cloud/some-model"
    entry = {"name": model, "api_base": f"http://127.0.0.1:{runner.addresses[0][1]}/"}
    async with start(entry, max_attempts=1) as llm:
        await fail(llm, False, model)
    await runner.cleanup()
    assert not stranger.requests


async def test_a_provider_outside_the_transport_is_refused(llm: AsyncClient) -> None:
    for model in ("aiohttp_openai/x", "vllm/x", "petals/x"):
        error = await fail(llm, False, f"litellm_{model}")
        assert error.reason == "MODEL_NOT_FOUND"
        assert "cannot be used here" in error.message
        assert not (await llm.is_available(f"litellm_{model}")).available
