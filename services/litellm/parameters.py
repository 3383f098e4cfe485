"""A request as arguments of litellm.acompletion.

https://docs.litellm.ai/docs/completion/input
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from arena_llm.types import GenerationRequest, Sampling
from services.common.errors import InvalidRequest, Unsupported
from services.common.hosted.constraints import messages
from services.litellm.config import OWN, PREFIX

if TYPE_CHECKING:
    from services.litellm.catalogue import Known

#: What provider_options may not set, beside OWN and litellm's internal arguments: who is
#: asked, with which key, and what hides one of these.
_NEVER = (
    *("api_*", "base_url", "*_key", "*_key_id", "*_token", "*secret*", "*credential*"),
    *("*headers*", "extra_body", "extra_query", "*endpoint*", "*_url", "*proxy*"),
    *("aws_*", "azure_*", "vertex_*", "organization", "deployment_id", "mock_*"),
    *("stream*", "*callback*", "*drop_params", "allowed_openai_params", "litellm_*"),
)


def arguments_of(
    request: GenerationRequest,
    known: Known,
    internal: frozenset[str],
    response_format: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The arguments, without key, address and delivery.

    internal: litellm's own arguments. Raises Unsupported (a parameter that the model does
    not take, by litellm's tables), InvalidRequest (provider_options that steer the call).
    """
    arguments: dict[str, Any] = {
        "model": request.model.removeprefix(PREFIX),
        "messages": [{"role": m.role, "content": m.content} for m in messages(request.input)],
        **dict(_parameters(request.sampling, known)),
    }
    if response_format is not None:
        arguments["response_format"] = response_format
    for name in request.provider_options:
        if name in arguments or _is_reserved(name, internal):
            raise InvalidRequest(
                f"provider_options.{name} cannot be set by a request",
                field=f"provider_options.{name}",
            )
    return {**known.entry.parameters, **arguments, **request.provider_options}


def _is_reserved(name: str, internal: frozenset[str]) -> bool:
    return (
        name in OWN
        or name in internal
        or any(fnmatchcase(name.lower(), pattern) for pattern in _NEVER)
    )


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
