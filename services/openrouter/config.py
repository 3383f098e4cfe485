"""configs/openrouter_models.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat

from services.common.hosted.config import BaseUrl, HostedConfig, HostedModel

PREFIX = "openrouter_"


class OpenRouterModel(HostedModel):
    """One model: its name is "openrouter_" and OpenRouter's own name for it."""


class OpenRouterConfig(HostedConfig[OpenRouterModel]):
    """The whole file.

    base_url: of OpenRouter's API, or of any server that speaks OpenAI's chat
    completions. dialect: what is spoken there; to "openai" nothing goes out that only
    OpenRouter knows, no credits are asked for, and no key is needed.
    referer, title: how the application shows in OpenRouter's rankings.
    connect_timeout_seconds: to connect. credits_seconds, catalogue_seconds: how long
    what the provider said of credits and of models is believed.
    """

    prefix = PREFIX

    base_url: BaseUrl = "https://openrouter.ai/api/v1"
    dialect: Literal["openrouter", "openai"] = "openrouter"
    referer: str = ""
    title: str = "Arena LLM"
    connect_timeout_seconds: PositiveFloat = 10
    credits_seconds: PositiveFloat = 5
    catalogue_seconds: PositiveFloat = 600
