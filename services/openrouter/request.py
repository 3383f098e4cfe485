"""Builds the body of POST /chat/completions from a request.

https://openrouter.ai/docs/api/reference/parameters
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arena_llm.types import GenerationRequest, Image, ProviderRouting
from services.common.errors import InvalidRequest, Unsupported
from services.common.hosted.request import (
    CHAT_PARAMETERS,
    OPTIONS,
    PARAMETER_NAMES,
    SERVICE_FIELDS,
    ResponseFormat,
    list_set_parameters,
)
from services.common.hosted.tools import (
    ADVICE,
    TOOL_FIELDS,
    build_tools,
    refuse_strict_tools,
)
from services.openrouter.catalogue import ListedModel
from services.openrouter.config import PREFIX, Dialect, remove_prefix
from services.openrouter.reasoning import build_reasoning, write_messages

#: Fields that provider_options may not set, because the request or the configuration does.
#: All other options become fields of a body that goes to the configured server.
_RESERVED = frozenset(
    (
        *SERVICE_FIELDS,
        *PARAMETER_NAMES,
        *TOOL_FIELDS,
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
) | {"response_format", "tools", "tool_choice", "parallel_tool_calls", "reasoning"}

#: Options that say the same as the request's own field `reasoning`.
_REASONING = ("reasoning", "reasoning_effort", "include_reasoning")


def build_body(
    request: GenerationRequest,
    response_format: ResponseFormat | None,
    dialect: Dialect,
    details: ListedModel | None = None,
) -> dict[str, Any]:
    """Build the body of a request that is not streamed.

    details: what the catalogue says about the model, if `needs_details`.

    If the body has a field that a provider may ignore, it also gets
    `provider.require_parameters`. A caller may set this to false in provider_options.

    Raises InvalidRequest if provider_options set a reserved field, Unsupported for what OpenRouter
    cannot do, and StateMismatch for a state of another model.
    """
    body: dict[str, Any] = {
        "model": remove_prefix(request.model),
        "messages": write_messages(request, dialect, details),
    }
    for _, parameter, value in list_set_parameters(request):
        body |= parameter.fields(value)
    if request.session and dialect.takes_routing:
        body["session_id"] = request.session  # keeps a game with one provider's prompt cache
    if response_format is not None:
        body["response_format"] = response_format
    body |= build_tools(request)
    if details is not None and not details.is_strict:
        refuse_strict_tools(request)
    body |= (reasoning := build_reasoning(request, dialect, details))
    options = dict(request.provider_options) if request.provider_options_json else {}
    for name in options:
        if name in _RESERVED or (reasoning and name in _REASONING):
            advice = "the request has a field for it, or the service sets it"
            advice = ADVICE if name in TOOL_FIELDS else advice
            raise InvalidRequest(f"provider_options.{name} cannot be set: {advice}", field=OPTIONS)
    if provider := _build_provider(options.pop("provider", {}), request, body, dialect):
        body["provider"] = provider
    return body | options


def _build_provider(
    options: Any, request: GenerationRequest, body: Mapping[str, Any], dialect: Dialect
) -> dict[str, Any]:
    """The body's `provider`, which chooses among a model's providers. options: the caller's."""
    required = dialect.takes_routing and not _IGNORABLE.isdisjoint(body)
    if request.routing is None and not options:
        return {"require_parameters": True} if required else {}
    if not isinstance(options, dict):
        raise InvalidRequest("provider_options.provider must be an object", field=OPTIONS)
    routing = _build_routing(request.routing)
    if routing and not dialect.takes_routing:
        raise Unsupported("only OpenRouter itself chooses a provider", field="routing")
    if both := sorted(routing.keys() & options.keys()):
        raise InvalidRequest(
            f"provider_options.provider.{both[0]} cannot be set together with routing",
            field=OPTIONS,
        )
    return {**({"require_parameters": True} if required else {}), **routing, **options}


def _build_routing(routing: ProviderRouting | None) -> dict[str, Any]:
    """https://openrouter.ai/docs/features/provider-routing"""
    if routing is None:
        return {}
    fields: dict[str, Any] = {}
    if routing.providers:
        fields["order"] = fields["only"] = list(routing.providers)
    if routing.allow_fallbacks is not None:
        fields["allow_fallbacks"] = routing.allow_fallbacks
    if routing.precisions:
        fields["quantizations"] = list(routing.precisions)
    return fields


def needs_details(request: GenerationRequest) -> bool:
    """Whether the catalogue may know that the model lacks what the request asks for."""
    if request.reasoning.effort is not None or any(tool.strict for tool in request.tools):
        return True
    if isinstance(request.input, str):
        return False
    return any(isinstance(part, Image) for message in request.messages for part in message.parts)


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
