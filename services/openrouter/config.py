"""configs/openrouter_models.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from services.common.hosted.config import BaseUrl, HostedConfig, HostedModel

PREFIX = "openrouter_"


def _no_query(url: str) -> str:
    if "?" in url or "#" in url:
        raise ValueError("a base URL has no query and no fragment: nothing would send them")
    return url


#: Text that an HTTP header can carry.
_HeaderText = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]


class OpenRouterModel(HostedModel):
    """One model: its name is "openrouter_" and OpenRouter's own name for it."""


class OpenRouterConfig(HostedConfig[OpenRouterModel]):
    """The whole file.

    base_url: of OpenRouter's API, or of any server that speaks OpenAI's chat
    completions; a user and password in it are sent in place of the key. dialect: what is
    spoken there; to "openai" nothing goes out that only OpenRouter knows, no credits are
    asked for, and no key is needed.
    referer, title: how the application shows in OpenRouter's rankings.
    connect_timeout_seconds: to connect. credits_seconds, catalogue_seconds: how long
    what the provider said of credits and of models is believed.
    """

    prefix = PREFIX

    base_url: Annotated[BaseUrl, AfterValidator(_no_query)] = "https://openrouter.ai/api/v1"
    dialect: Literal["openrouter", "openai"] = "openrouter"
    referer: _HeaderText = ""
    title: _HeaderText = "Arena LLM"
    connect_timeout_seconds: PositiveFloat = 10
    credits_seconds: PositiveFloat = 5
    catalogue_seconds: PositiveFloat = 600
