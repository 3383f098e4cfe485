"""configs/litellm_models.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from services.common.hosted.config import BaseUrl, HostedConfig, HostedModel

PREFIX = "litellm_"

#: What the service itself sets in each call to litellm.
OWN = frozenset(
    (
        *("model", "messages", "stream", "stream_options", "n", "response_format", "timeout"),
        *("api_key", "api_base", "base_url", "max_retries", "num_retries", "drop_params"),
    )
)


def _not_own(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    if taken := sorted(OWN & parameters.keys()):
        raise ValueError(f"{', '.join(taken)}: the service sets that itself")
    return parameters


class LiteLlmModel(HostedModel):
    """One model: its name is "litellm_" and litellm's own name, "provider/model".

    api_base: where the provider's API is, in place of its usual address. key_variable:
    the variable with this model's key, in place of the provider's usual one. parameters:
    arguments of litellm.acompletion that go along with each call; what the request says
    goes before. drop_params: what requests may set although the model does not take it;
    it is left out of each call instead of being refused.
    """

    api_base: BaseUrl | None = None
    # Only such variables are read from .env, and only their values are kept out of texts.
    key_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*_API_KEY$")] | None = None
    parameters: Annotated[Mapping[str, Any], AfterValidator(_not_own)] = {}
    drop_params: frozenset[
        Literal[
            "temperature",
            "top_p",
            "top_k",
            "max_tokens",
            "seed",
            "stop",
            "presence_penalty",
            "frequency_penalty",
            "logprobs",
        ]
    ] = frozenset()


class LiteLlmConfig(HostedConfig[LiteLlmModel]):
    """The whole file."""

    prefix = PREFIX
