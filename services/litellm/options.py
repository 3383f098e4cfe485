"""Which provider_options a request may set.

litellm reads several hundred argument names. Many decide where a call goes, with which key,
or what else runs. So a request may set only the names below, all of which shape the answer
and nothing else. A model's entry in the configuration may allow more (`allow_options`).
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

#: What the service itself sets in each call to litellm.
OWN = frozenset(
    (
        *("model", "messages", "stream", "stream_options", "n", "response_format", "timeout"),
        *("api_key", "api_base", "base_url", "max_retries", "num_retries", "drop_params"),
    )
)

#: Fields of the request itself, which has their ranges and knows what they mean.
SAMPLING = frozenset(
    (
        *("temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "seed", "stop"),
        *("presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"),
    )
)

#: What no entry can allow: a destination, credentials, code of litellm's own.
_NEVER = (
    *("api_*", "*url", "*_uri", "uri", "*host", "*endpoint*", "*proxy*", "*headers*", "*header"),
    *("*_key", "*_key_id", "*_token", "*token_file", "*secret*", "*credential*", "*password*"),
    *("extra_body", "extra_query", "aws_*", "azure*", "vertex_*", "oci_*", "organization"),
    *("deployment_id", "client", "*session", "ssl_*", "custom_*", "use_*", "mock_*", "stream*"),
    *("*fallback*", "*callback*", "*drop_params", "allowed_openai_params", "litellm_*"),
    *("model_*", "*router*", "prompt_id", "tools", "functions", "guardrails"),
)
#: ... but for these, which match by accident.
_HARMLESS = frozenset({"prompt_cache_key"})

#: In OpenAI's chat completions; other providers know some of them.
_EVERYWHERE = frozenset(
    (
        *("logit_bias", "prediction", "reasoning_effort", "thinking", "verbosity"),
        *("service_tier", "user", "safety_identifier", "prompt_cache_key"),
        # Samplers of servers for open models.
        *("min_p", "top_a", "typical_p", "repetition_penalty", "length_penalty", "min_tokens"),
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

#: By litellm's name of the provider.
_BY_PROVIDER: Mapping[str, frozenset[str]] = {
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
    """The names that a request may set for any model of the provider."""
    return _EVERYWHERE | _BY_PROVIDER.get(provider, frozenset())


def is_reserved(name: str) -> bool:
    """Whether no configuration can allow the name."""
    lower = name.lower()
    return lower in OWN or (
        lower not in _HARMLESS and any(fnmatchcase(lower, pattern) for pattern in _NEVER)
    )
