"""The configuration of the openrouter service: configs/openrouter_models.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from services.common.hosted.config import BaseUrl, HostedConfig, HostedModel

PREFIX = "openrouter_"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How servers of one kind differ from others that speak OpenAI's chat completions.

    takes_routing: the body may have `session_id` and `provider`, which choose among a model's
    providers. has_credits: it has /key and /credits. needs_key: no call works without a key.
    must_list_models: a model without a readable entry in /models cannot be called.
    marks_end: a stream without "[DONE]" is incomplete, because usage and cost come last.
    """

    takes_routing: bool
    has_credits: bool
    needs_key: bool
    must_list_models: bool
    marks_end: bool


DIALECTS: Mapping[str, Dialect] = {
    "openrouter": Dialect(
        takes_routing=True,
        has_credits=True,
        needs_key=True,
        must_list_models=True,
        marks_end=True,
    ),
    "openai": Dialect(
        takes_routing=False,
        has_credits=False,
        needs_key=False,
        must_list_models=False,
        marks_end=False,
    ),
}


def _check_no_query(url: str) -> str:
    if "?" in url or "#" in url:
        raise ValueError("a base URL has no query and no fragment: they would not be sent")
    return url


#: Text that an HTTP header can carry.
_HeaderText = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]


class OpenRouterModel(HostedModel):
    """One model. Its name is "openrouter_" followed by OpenRouter's own name for it."""


class OpenRouterConfig(HostedConfig[OpenRouterModel]):
    """The whole file.

    base_url: of OpenRouter's API, or of another server that speaks OpenAI's chat completions.
    A user and password in it are sent in place of the key.
    dialect: "openai" for another server. It gets no field that only OpenRouter knows, gets no
    requests for credits, and needs no key.
    referer, title: how the application appears in OpenRouter's rankings.
    credits_seconds, catalogue_seconds: how long credits and the list of models are cached.
    """

    prefix = PREFIX

    base_url: Annotated[BaseUrl, AfterValidator(_check_no_query)] = "https://openrouter.ai/api/v1"
    dialect: Literal["openrouter", "openai"] = "openrouter"
    referer: _HeaderText = ""
    title: _HeaderText = "Arena LLM"
    credits_seconds: PositiveFloat = 5
    catalogue_seconds: PositiveFloat = 600


def remove_prefix(model: str) -> str:
    """OpenRouter's own name of a model, from its full name."""
    return model.removeprefix(PREFIX)
