"""The configuration of the litellm service, configs/litellm_models.yaml, and what requests may
set in provider_options.

litellm reads several hundred argument names. Many of them decide where a call goes, with which
key, or what else runs. So a request may only set the options below, which shape the answer and
nothing else. A model's entry may allow more (`allow_options`).
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from services.common.hosted.config import BaseUrl, HostedConfig, HostedModel
from services.common.hosted.request import CHAT_PARAMETERS, SERVICE_FIELDS

PREFIX = "litellm_"

#: The openrouter service's key, which this service never gets.
OPENROUTER_KEY = "OPENROUTER_API_KEY"

#: Variables that litellm's providers read: keys, addresses, and the clouds' own logins.
ENVIRONMENT = (
    "!OPENROUTER_*",
    *("*_API_KEY", "*_API_TOKEN", "*_AUTH_TOKEN", "*_API_BASE", "*_API_VERSION"),
    *("TOGETHER_AI_TOKEN", "FIREWORKS_AI_TOKEN", "CLOUDFLARE_*", "DATABRICKS_*", "WATSONX_*"),
    *("AWS_*", "AZURE_*", "VERTEX*", "GOOGLE_*"),
    *("*_proxy", "*_PROXY"),
)

#: Arguments that the service itself sets in each call to litellm.
_SERVICE_ARGUMENTS = SERVICE_FIELDS | {
    *("timeout", "max_retries", "num_retries", "drop_params"),
    *("api_key", "api_base", "base_url"),
}

#: Options that no entry can allow: addresses, credentials, code inside litellm.
_NEVER = (
    *("api_*", "*url", "*_uri", "uri", "*host", "*endpoint*", "*proxy*", "*headers*", "*header"),
    *("*_key", "*_key_id", "*_token", "*token_file", "*secret*", "*credential*", "*password*"),
    *("extra_body", "extra_query", "aws_*", "azure*", "vertex_*", "oci_*", "organization"),
    *("deployment_id", "client", "*session", "ssl_*", "custom_*", "use_*", "mock_*", "stream*"),
    *("*fallback*", "*callback*", "*drop_params", "allowed_openai_params", "litellm_*"),
    *("model_*", "*router*", "prompt_id", "tools", "functions", "guardrails"),
)
#: Options that match a pattern of _NEVER but are harmless.
_HARMLESS = frozenset({"prompt_cache_key"})

#: Options of OpenAI's chat completions. Other providers know some of them.
_FOR_ALL = frozenset(
    (
        *("prediction", "reasoning_effort", "thinking", "verbosity"),
        *("service_tier", "user", "safety_identifier", "prompt_cache_key"),
        # Sampling options of servers for open models.
        *("top_a", "typical_p", "length_penalty", "min_tokens"),
        *("ignore_eos", "chat_template_kwargs"),
    )
)

_GEMINI = frozenset({"safety_settings"})
_OLLAMA = frozenset(
    (
        *("mirostat", "mirostat_eta", "mirostat_tau", "repeat_last_n", "repeat_penalty"),
        *("tfs_z", "think"),
    )
)

#: Options of single providers, by litellm's name of the provider.
BY_PROVIDER: Mapping[str, frozenset[str]] = {
    "fireworks_ai": frozenset({"mirostat_target", "mirostat_lr"}),
    "gemini": _GEMINI,
    "groq": frozenset({"reasoning_format", "include_reasoning"}),
    "mistral": frozenset({"safe_prompt", "prompt_mode"}),
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA,
    "vertex_ai": _GEMINI,
    "vertex_ai_beta": _GEMINI,
    "watsonx_text": frozenset({"decoding_method", "min_new_tokens", "include_stop_sequences"}),
}


def allowed_options(provider: str) -> frozenset[str]:
    """The options that requests may set for all models of the provider."""
    return _FOR_ALL | BY_PROVIDER.get(provider, frozenset())


def is_reserved(name: str) -> bool:
    """Whether no configuration can allow the option."""
    lower = name.lower()
    return lower in _SERVICE_ARGUMENTS or (
        lower not in _HARMLESS and any(fnmatchcase(lower, pattern) for pattern in _NEVER)
    )


def _check_parameters(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    if taken := sorted(_SERVICE_ARGUMENTS & parameters.keys()):
        raise ValueError(f"{', '.join(taken)}: the service sets that itself")
    return parameters


def _check_allowed(names: frozenset[str]) -> frozenset[str]:
    if reserved := sorted(filter(is_reserved, names)):
        raise ValueError(f"{', '.join(reserved)}: a request can never set that")
    return names


def _check_dropped(names: frozenset[str]) -> frozenset[str]:
    if unknown := sorted(names - CHAT_PARAMETERS.keys()):
        raise ValueError(
            f"{', '.join(unknown)}: not a sampling parameter; those are "
            f"{', '.join(CHAT_PARAMETERS)}"
        )
    return names


class LiteLlmModel(HostedModel):
    """One model. Its name is "litellm_" followed by litellm's own name, "provider/model".

    api_base: the URL of the provider's API, in place of its usual one.
    key_variable: the variable that holds this model's key, in place of the provider's usual one.
    parameters: arguments of litellm.acompletion for each call. The request takes precedence.
    drop_params: sampling parameters that are left out of each call. Without it, a request that
    sets a parameter that the model does not take is refused.
    allow_options: further names that requests may set in provider_options.
    """

    api_base: BaseUrl | None = None
    # Only variables with such names are read from .env and hidden in texts.
    key_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*_API_KEY$")] | None = None
    parameters: Annotated[Mapping[str, Any], AfterValidator(_check_parameters)] = {}
    drop_params: Annotated[frozenset[str], AfterValidator(_check_dropped)] = frozenset()
    allow_options: Annotated[frozenset[str], AfterValidator(_check_allowed)] = frozenset()


class LiteLlmConfig(HostedConfig[LiteLlmModel]):
    """The whole file."""

    prefix = PREFIX
