"""configs/litellm_models.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from services.common.hosted.config import BaseUrl, HostedConfig, HostedModel
from services.litellm.options import OWN, is_reserved

PREFIX = "litellm_"


def _not_own(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    if taken := sorted(OWN & parameters.keys()):
        raise ValueError(f"{', '.join(taken)}: the service sets that itself")
    return parameters


def _allowable(names: frozenset[str]) -> frozenset[str]:
    if reserved := sorted(filter(is_reserved, names)):
        raise ValueError(f"{', '.join(reserved)}: a request can never set that")
    return names


class LiteLlmModel(HostedModel):
    """One model: its name is "litellm_" and litellm's own name, "provider/model".

    api_base: where the provider's API is, in place of its usual address. key_variable:
    the variable with this model's key, in place of the provider's usual one. parameters:
    arguments of litellm.acompletion that go along with each call; what the request says
    goes before. drop_params: what requests may set although the model does not take it;
    it is left out of each call instead of being refused. allow_options: names that
    requests may set in provider_options, beside those of services/litellm/options.py.
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
    allow_options: Annotated[frozenset[str], AfterValidator(_allowable)] = frozenset()


class LiteLlmConfig(HostedConfig[LiteLlmModel]):
    """The whole file."""

    prefix = PREFIX
