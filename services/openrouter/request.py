"""A request for one completion as the body of POST /chat/completions.

https://openrouter.ai/docs/api/reference/parameters
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arena_llm.types import GenerationRequest, Sampling
from services.common.errors import InvalidRequest
from services.common.hosted.constraints import messages
from services.openrouter.config import PREFIX

#: What provider_options may not set: the request says it, or the configuration. Whatever
#: they do set is a field of a body that goes to the configured server.
_RESERVED = {
    *("model", "messages", "prompt", "input", "stream", "stream_options", "n"),
    *("response_format", "usage", "session_id", "max_completion_tokens"),
    *("temperature", "top_p", "top_k", "max_tokens", "seed", "stop", "presence_penalty"),
    *("frequency_penalty", "logprobs", "top_logprobs"),
    *("api_key", "base_url", "api_base", "headers", "extra_headers", "extra_body"),
}

#: Parameters that a provider would leave out in silence if it were not told to honour
#: all. max_tokens is not one of them: every provider has it.
_REQUIRED = {
    *("temperature", "top_p", "top_k", "seed", "stop", "presence_penalty"),
    *("frequency_penalty", "logprobs", "top_logprobs", "response_format"),
}


def body_of(
    request: GenerationRequest,
    response_format: Mapping[str, Any] | None = None,
    openrouter: bool = True,
) -> dict[str, Any]:
    """The body of a request that is not streamed.

    openrouter: False leaves out what other servers do not know. Otherwise
    `provider.require_parameters` goes along with every parameter that a provider could
    leave out; provider_options may set it to false, with all that follows.

    Raises InvalidRequest where provider_options set what the request itself says.
    """
    body: dict[str, Any] = {
        "model": request.model.removeprefix(PREFIX),
        "messages": [{"role": m.role, "content": m.content} for m in messages(request.input)],
        **_parameters(request.sampling),
    }
    if request.session and openrouter:
        body["session_id"] = request.session  # one game, one provider's prompt cache
    if response_format is not None:
        body["response_format"] = response_format
    options = dict(request.provider_options)
    for name in options:
        if name in _RESERVED:
            raise InvalidRequest(
                f"provider_options.{name} cannot be set: the request has a field for it, or the "
                "service sets it",
                field=f"provider_options.{name}",
            )
    provider = options.pop("provider", {})
    if not isinstance(provider, dict):
        raise InvalidRequest(
            "provider_options.provider must be an object", field="provider_options.provider"
        )
    if openrouter and not _REQUIRED.isdisjoint(body):
        provider = {"require_parameters": True, **provider}
    if provider:
        body["provider"] = provider
    return body | options


def other_models(options: Mapping[str, Any]) -> list[str]:
    """The models, by full names, that options name beside the request's own.

    Raises InvalidRequest where they cannot be known.
    """
    if "preset" in options:
        raise InvalidRequest(
            "provider_options.preset may hold models that the configuration does not list",
            field="provider_options.preset",
        )
    models = options.get("models", [])
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise InvalidRequest(
            "provider_options.models must be a list of names", field="provider_options.models"
        )
    return [f"{PREFIX}{model}" for model in models]


def streamed(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same, streamed. OpenRouter always sends usage; other servers want to be asked."""
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


def required_parameters(body: Mapping[str, Any]) -> list[str]:
    """The parameters that the provider was told to honour."""
    if not body.get("provider", {}).get("require_parameters"):
        return []
    return sorted(_REQUIRED & body.keys())


def _parameters(sampling: Sampling) -> dict[str, Any]:
    values = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logprobs": None if sampling.logprobs is None else True,
        "top_logprobs": sampling.logprobs,
    }
    return {name: value for name, value in values.items() if value is not None}
