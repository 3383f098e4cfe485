"""A request as arguments of litellm.acompletion.

https://docs.litellm.ai/docs/completion/input
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from arena_llm.types import GenerationRequest, Sampling
from services.common.errors import InvalidRequest, Unsupported
from services.common.hosted.constraints import messages
from services.litellm.config import PREFIX
from services.litellm.options import SAMPLING, allowed_options, is_reserved

if TYPE_CHECKING:
    from services.litellm.catalogue import Known

_SHOWN = 100  # characters of a caller's name in an error


def arguments_of(
    request: GenerationRequest,
    known: Known,
    internal: frozenset[str],
    response_format: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The arguments, without key, address and delivery.

    internal: litellm's own arguments. Raises Unsupported (a parameter that the model does
    not take, by litellm's tables), InvalidRequest (an option that requests may not set).
    """
    arguments: dict[str, Any] = {
        "model": request.model.removeprefix(PREFIX),
        "messages": [{"role": m.role, "content": m.content} for m in messages(request.input)],
        **dict(_parameters(request.sampling, known)),
    }
    if response_format is not None:
        arguments["response_format"] = response_format
    for name in request.provider_options:
        _check_option(name, known, internal)
    return {**known.entry.parameters, **arguments, **request.provider_options}


def _check_option(name: str, known: Known, internal: frozenset[str]) -> None:
    if name in SAMPLING:
        problem = "has a field of its own in the request: set that"
    elif is_reserved(name) or name in internal:
        problem = "cannot be set by a request"
    elif name in allowed_options(known.provider) or name in known.entry.allow_options:
        return
    else:
        problem = (
            f"is not among the options that requests may set for {known.provider}; if it only "
            "shapes the answer, list it under allow_options in the model's entry of "
            "configs/litellm_models.yaml"
        )
    field = f"provider_options.{name[:_SHOWN]}"
    raise InvalidRequest(f"{field} {problem}", field=field)


def _parameters(sampling: Sampling, known: Known) -> Iterator[tuple[str, Any]]:
    """The sampling parameters that are set, under the names that the model takes."""
    for name, value in (
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("top_k", sampling.top_k or None),  # 0 is off
        ("max_tokens", sampling.max_tokens),
        ("seed", sampling.seed),
        ("stop", list(sampling.stop) or None),
        ("presence_penalty", sampling.presence_penalty),
        ("frequency_penalty", sampling.frequency_penalty),
        ("logprobs", sampling.logprobs),
    ):
        if value is not None and name not in known.entry.drop_params:
            yield from _named(name, value, known)


def _named(name: str, value: Any, known: Known) -> Iterator[tuple[str, Any]]:
    taken = known.parameters
    if name == "max_tokens" and name not in taken:
        wanted: dict[str, Any] = {"max_completion_tokens": value}
    elif name == "logprobs" and value:
        wanted = {"logprobs": True, "top_logprobs": value}
    elif name == "logprobs":
        wanted = {"logprobs": True}
    else:
        wanted = {name: value}
    if not taken.issuperset(wanted):
        raise Unsupported(
            f"{known.full_name} does not take {name}: leave it out, or list it under "
            "drop_params in the model's entry",
            field=f"config.{name}",
            metadata={"parameter": name},
        )
    yield from wanted.items()
