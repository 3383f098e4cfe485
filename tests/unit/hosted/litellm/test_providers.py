"""Unlisted models: only of providers that are called over this service's transport."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import ModelNotFound
from services.litellm.config import LiteLlmConfig
from services.litellm.providers import check_unlisted
from tests.unit.hosted.conftest import STREAMED, Start, fail


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """A process without a network and with an empty home. Returns the attempts to connect."""
    attempts: list[Any] = []

    def connect(_: object, address: object, *__: object) -> None:
        attempts.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: connect(None, host))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_API_BASE", "_TOKEN")):
            monkeypatch.delenv(name)
    return attempts


async def test_no_unlisted_name_asks_a_server_or_writes_a_file(
    alone: list[Any], tmp_path: Path
) -> None:
    from litellm.types.utils import LlmProviders

    from services.litellm.catalogue import LiteLlmCatalogue

    config = LiteLlmConfig.model_validate({"listen": "127.0.0.1:0", "models": []})
    catalogue = LiteLlmCatalogue(config)
    found = 0
    for provider in LlmProviders:
        with suppress(ModelNotFound):
            model = await catalogue.find(f"litellm_{provider.value}/some-model")
            found += 1
            check_unlisted(model.provider)
        assert not alone, provider
    assert found > 50
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("huggingface/a/b", "bedrock/claude", "sagemaker/x", "vertex_ai/gemini-2.5-flash"),
        *("github_copilot/gpt-4o", "chatgpt/gpt-5", "langgraph/x", "docker_model_runner/x"),
        *("lemonade/x", "llamafile/x", "ollama/llama3", "ollama_chat/llama3", "xinference/x"),
        *("replicate/a/b", "predibase/x", "oci/x", "sap/x", "custom/x", "triton/x"),
    ],
)
@STREAMED
async def test_other_providers_need_an_entry(
    start: Start, upstream: Any, name: str, streamed: bool
) -> None:
    async with start(max_attempts=3) as llm:
        answer = await llm.is_available(f"litellm_{name}")
        error = await fail(llm, streamed, f"litellm_{name}")
    assert (error.code, error.reason, error.field) == ("NOT_FOUND", "MODEL_NOT_FOUND", "model")
    assert "litellm_models.yaml" in error.message
    assert not answer.available


async def test_a_configured_address_is_enough(
    start: Start, upstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_BASE", upstream.origin)
    async with start(max_attempts=1) as llm:
        error = await fail(llm, False, "litellm_ollama_chat/llama3")
    assert "/api/chat" in error.message  # the server's own answer


@pytest.mark.parametrize("name", ["vertex_ai/gemini-2.5-flash", "watsonx/x", "gdc/x"])
@STREAMED
async def test_a_set_up_error_is_not_retried(
    start: Start, monkeypatch: pytest.MonkeyPatch, name: str, streamed: bool
) -> None:
    """litellm fails before it sends a request. The caller sees no path of this machine."""
    model = f"litellm_{name}"
    for variable in ("WATSONX_URL", "WATSONX_API_KEY"):
        monkeypatch.setenv(variable, "planted")
    entry = {"name": model, "api_base": None, "key_variable": "OPENAI_API_KEY"}
    async with start(entry, max_attempts=3) as llm:
        error = await fail(llm, streamed, model)
    assert error.code == "FAILED_PRECONDITION"
    assert error.report is not None
    assert len(error.report.attempts) == 1
    for piece in ("Traceback", "site-packages", ".py", os.environ["HOME"]):
        assert piece not in error.message


def test_paths_are_hidden() -> None:
    from services.litellm.errors import hide_paths

    text = (
        "vertex: see /opt/a/lib/python3.11/site-packages/litellm/main.py, File "
        "'/home/someone/.config/litellm/token.json' and https://api.example/v1/chat"
    )
    hidden = hide_paths(text)
    assert "site-packages" not in hidden
    assert "someone" not in hidden
    assert "https://api.example/v1/chat" in hidden
