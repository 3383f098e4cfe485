"""Builds the arguments of litellm.acompletion from a request.

https://docs.litellm.ai/docs/completion/input
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from arena_llm.types import GenerationRequest
from services.common.errors import InvalidRequest, Unsupported
from services.common.hosted.request import (
    OPTIONS,
    PARAMETER_NAMES,
    ChatParameter,
    ResponseFormat,
    list_set_parameters,
    request_field,
)
from services.common.hosted.tools import (
    ADVICE,
    TOOL_FIELDS,
    build_tools,
    refuse_strict_tools,
)
from services.litellm.config import PREFIX, allowed_options, is_reserved
from services.litellm.parts import LiteLlmWriter
from services.litellm.reasoning import build_reasoning

if TYPE_CHECKING:
    from services.litellm.catalogue import ProviderModel

_MAX_SHOWN = 100  # characters of a caller's option name in an error


def build_arguments(
    request: GenerationRequest,
    model: ProviderModel,
    internal: frozenset[str],
    response_format: ResponseFormat | None = None,
) -> dict[str, Any]:
    """Build the arguments, without key, address and streaming.

    internal: the names of litellm's own arguments.
    Raises Unsupported (a parameter that the model does not take, by litellm's tables) and
    InvalidRequest (an option that requests may not set).
    """
    arguments: dict[str, Any] = {
        "model": request.model.removeprefix(PREFIX),
        "messages": LiteLlmWriter(request, model).write(),
        **_build_tools(request, model),
        **build_reasoning(request, model),
        **dict(_build_parameters(request, model)),
    }
    if response_format is not None:
        arguments["response_format"] = response_format
    for name in request.provider_options:
        _check_option(name, model, internal, arguments)
    hints = _build_hints(request, model)
    return {**hints, **model.entry.parameters, **arguments, **request.provider_options}


#: Characters of OpenAI's prompt_cache_key.
_MAX_CACHE_KEY = 64


def _build_hints(request: GenerationRequest, model: ProviderModel) -> dict[str, Any]:
    """The arguments that the session becomes: its calls find the same cache.

    Only OpenAI's own models get it (https://platform.openai.com/docs/guides/prompt-caching). Other
    servers may refuse a field that they do not know, although litellm lists it for them.
    """
    session = request.session
    if not session or model.provider != "openai" or not model.row:
        return {}
    if len(session) > _MAX_CACHE_KEY:
        session = blake2b(session.encode(), digest_size=16).hexdigest()
    return {"prompt_cache_key": session}


def _build_tools(request: GenerationRequest, model: ProviderModel) -> dict[str, Any]:
    """The arguments for tools. Raises Unsupported for one that the model does not take."""
    tools = build_tools(request)
    for name in tools:
        if name not in model.parameters:
            field = request_field(name)
            raise Unsupported(f"{model.full_name} does not take {field}", field=field)
    if model.is_gemini and "parallel_tool_calls" in tools:  # litellm would drop it
        raise Unsupported(
            f"{model.full_name} cannot be limited to one call of a tool: leave it out",
            field="tool_choice.allow_parallel",
        )
    if not model.is_strict:
        refuse_strict_tools(request)
    return tools


def _check_option(
    name: str, model: ProviderModel, internal: frozenset[str], arguments: Mapping[str, Any]
) -> None:
    """Raise InvalidRequest if a request may not set the option."""
    if name in TOOL_FIELDS:
        problem = f"cannot be set: {ADVICE}"
    elif name in PARAMETER_NAMES or name in arguments:
        problem = "has its own field in the request: set that field"
    elif is_reserved(name) or name in internal:
        problem = "cannot be set by a request"
    elif name in allowed_options(model.provider) or name in model.entry.allow_options:
        return
    else:
        problem = (
            f"is not among the options that requests may set for {model.provider}; if it only "
            "shapes the answer, list it under allow_options in the model's entry of "
            "configs/litellm_models.yaml"
        )
    raise InvalidRequest(f"provider_options.{name[:_MAX_SHOWN]} {problem}", field=OPTIONS)


def _build_parameters(
    request: GenerationRequest, model: ProviderModel
) -> Iterator[tuple[str, Any]]:
    """Yield the parameters of the request under the names that the model takes."""
    for field, parameter, value in list_set_parameters(request):
        turned_off = parameter.off is not None and value == parameter.off
        if turned_off or field in model.entry.drop_params:
            continue
        _check_limit(field, value, parameter, model)
        arguments = _choose_names(parameter, value, model)
        if not model.parameters.issuperset(arguments):
            raise Unsupported(
                f"{model.full_name} does not take {field}: leave it out, or list it under "
                "drop_params in the model's entry",
                field=parameter.path,
                metadata={"parameter": field},
            )
        yield from arguments.items()


def _check_limit(field: str, value: Any, parameter: ChatParameter, model: ProviderModel) -> None:
    """Raise Unsupported for a value that the contract allows and the provider does not."""
    format = "anthropic" if model.is_claude else "gemini" if model.is_gemini else model.provider
    most = _LIMITS.get(format, {}).get(field)
    if most is not None and (len(value) if isinstance(value, list) else value) > most:
        kind = "values" if isinstance(value, list) else "as the largest value"
        raise Unsupported(
            f"{model.full_name} takes at most {most} {kind} of {field}", field=parameter.path
        )


#: The largest values that providers take or, for a list, the most values.
_LIMITS: Mapping[str, Mapping[str, int]] = {
    "openai": {"temperature": 2, "stop": 4},
    "azure": {"temperature": 2, "stop": 4},
    "anthropic": {"temperature": 1},
    "gemini": {"temperature": 2, "stop": 5, "seed": 2**31 - 1},
}


def _choose_names(parameter: ChatParameter, value: Any, model: ProviderModel) -> dict[str, Any]:
    if parameter.other_name and parameter.name not in model.parameters:
        return {parameter.other_name: value}
    return parameter.fields(value)
