"""Builds the body of POST /chat/completions from a request.

https://openrouter.ai/docs/api/reference/parameters
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arena_llm.types import GenerationRequest
from services.common.errors import InvalidRequest
from services.common.hosted.request import (
    CHAT_PARAMETERS,
    OPTIONS,
    PARAMETER_NAMES,
    SERVICE_FIELDS,
    ResponseFormat,
    build_messages,
    list_set_parameters,
)
from services.openrouter.config import PREFIX, Dialect, remove_prefix

#: Fields that provider_options may not set, because the request or the configuration does.
#: All other options become fields of a body that goes to the configured server.
_RESERVED = frozenset(
    (
        *SERVICE_FIELDS,
        *PARAMETER_NAMES,
        *("prompt", "input", "usage", "session_id"),
        *("api_key", "base_url", "api_base", "headers", "extra_headers", "extra_body"),
    )
)

#: Fields that a provider may silently ignore unless `require_parameters` is set.
_IGNORABLE = frozenset(
    name
    for parameter in CHAT_PARAMETERS.values()
    for name in parameter.names
    if not parameter.always_honoured
) | {"response_format"}


def build_body(
    request: GenerationRequest, response_format: ResponseFormat | None, dialect: Dialect
) -> dict[str, Any]:
    """Build the body of a request that is not streamed.

    If the body has a field that a provider may ignore, it also gets
    `provider.require_parameters`. A caller may set this to false in provider_options.

    Raises InvalidRequest if provider_options set a reserved field.
    """
    body: dict[str, Any] = {
        "model": remove_prefix(request.model),
        "messages": build_messages(request.input),
    }
    for _, parameter, value in list_set_parameters(request):
        body |= parameter.fields(value)
    if request.session and dialect.takes_routing:
        body["session_id"] = request.session  # keeps a game with one provider's prompt cache
    if response_format is not None:
        body["response_format"] = response_format
    options = dict(request.provider_options)
    for name in options:
        if name in _RESERVED:
            raise InvalidRequest(
                f"provider_options.{name} cannot be set: the request has a field for it, or the "
                "service sets it",
                field=OPTIONS,
            )
    provider = options.pop("provider", {})
    if not isinstance(provider, dict):
        raise InvalidRequest("provider_options.provider must be an object", field=OPTIONS)
    if dialect.takes_routing and not _IGNORABLE.isdisjoint(body):
        provider = {"require_parameters": True, **provider}
    if provider:
        body["provider"] = provider
    return body | options


def add_streaming(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the same request, streamed. Servers other than OpenRouter send usage only on
    request."""
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


def required_fields(body: Mapping[str, Any]) -> list[str]:
    """The fields of the body that a provider must honour, because of `require_parameters`."""
    if not body.get("provider", {}).get("require_parameters"):
        return []
    return sorted(_IGNORABLE & body.keys())


def other_models(options: Mapping[str, Any]) -> list[str]:
    """The full names of the further models that the options name.

    Raises InvalidRequest if they cannot be known.
    """
    if "preset" in options:
        raise InvalidRequest(
            "provider_options.preset may hold models that the configuration does not list",
            field=OPTIONS,
        )
    models = options.get("models", [])
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise InvalidRequest("provider_options.models must be a list of names", field=OPTIONS)
    return [f"{PREFIX}{model}" for model in models]
