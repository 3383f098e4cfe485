"""The hosted services' fake providers: how each is called, and the service in front of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.common.hosted.backend import HostedBackend
from services.litellm.backend import LiteLlmBackend
from services.litellm.config import LiteLlmConfig
from services.litellm.setup import NEVER_AWAITED
from services.openrouter.backend import OpenRouterBackend
from services.openrouter.config import OpenRouterConfig
from tests.support.upstreams import anthropic, gemini, openai, openrouter
from tests.support.upstreams.server import UpstreamServer


@dataclass(frozen=True)
class Provider:
    """A fake provider, and the service in front of it.

    upstream: the fake. model: a full name. address: the variable with its URL. variable, key: the
    API key that the fake accepts. answer_id: the id in its answers.
    """

    service: str
    upstream: type[UpstreamServer]
    model: str
    address: str
    variable: str
    key: str
    answer_id: str

    def make_backend(
        self, url: str, entry: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> HostedBackend[Any]:
        """Make the backend. entry: more keys of the model's entry. settings: of the file."""
        models: list[Any] = [{"name": self.model, **entry}]
        settings = {"models": models, **settings}
        if self.service == "openrouter":
            return OpenRouterBackend(OpenRouterConfig.model_validate({"base_url": url, **settings}))
        models[0].setdefault("api_base", url)
        return LiteLlmBackend(LiteLlmConfig.model_validate(settings))


PROVIDERS: Mapping[str, Provider] = {
    "openrouter": Provider(
        "openrouter",
        openrouter.OpenRouterUpstream,
        "openrouter_a/plain",
        "OPENROUTER_BASE_URL",
        "OPENROUTER_API_KEY",
        openrouter.KEY,
        "gen-1",
    ),
    "openai": Provider(
        "litellm",
        openai.OpenAIUpstream,
        "litellm_openai/gpt-4o-mini",
        "OPENAI_API_BASE",
        "OPENAI_API_KEY",
        openai.KEY,
        "chatcmpl-1",
    ),
    "anthropic": Provider(
        "litellm",
        anthropic.AnthropicUpstream,
        "litellm_anthropic/claude-sonnet-4-5",
        "ANTHROPIC_API_BASE",
        "ANTHROPIC_API_KEY",
        anthropic.KEY,
        "msg_1",
    ),
    "gemini": Provider(
        "litellm",
        gemini.GeminiUpstream,
        "litellm_gemini/gemini-2.5-flash",
        "GEMINI_API_BASE",
        "GEMINI_API_KEY",
        gemini.KEY,
        "gemini-1",
    ),
}

#: Warnings that litellm causes in a test's process: pydantic's, of its types and how it reads them,
#: and Python's, of calls that were cancelled while they began.
LITELLM_WARNINGS = (
    f"ignore:{NEVER_AWAITED}:RuntimeWarning",
    "ignore:Item '.*' on TypedDict class '.*:UserWarning",
    "ignore:Accessing the 'model_.*fields' attribute on the instance:DeprecationWarning",
)
