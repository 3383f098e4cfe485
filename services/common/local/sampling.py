"""What an unset sampling parameter means for a local engine, and combinations that cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arena_llm.types import Choices, GenerationRequest, Sampling
from services.common.errors import InvalidRequest, make_field_error

#: The sampling parameters that local engines honour, and their values for a request that sets
#: none: the model's own distribution. `max_tokens` then comes from the configuration.
SAMPLING_DEFAULTS: Mapping[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "max_tokens": None,
    "seed": None,
    "stop": (),
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "min_tokens": 0,
    "stop_token_ids": (),
    "ignore_eos": False,
    "logit_bias": {},
}

#: Parameters that move the end of a text, which a constraint already sets.
_ENDS = ("min_tokens", "stop_token_ids", "ignore_eos")


def sampling_settings(sampling: Sampling) -> dict[str, Any]:
    """Each parameter of SAMPLING_DEFAULTS: the request's value, else the default."""
    return {
        name: default if (value := getattr(sampling, name)) is None else value
        for name, default in SAMPLING_DEFAULTS.items()
    }


def describe_defaults(max_tokens: int) -> Sampling:
    """What an unset parameter means, for Model.defaults."""
    known = {n: v for n, v in SAMPLING_DEFAULTS.items() if type(v) in (int, float)}
    return Sampling(**known, max_tokens=max_tokens)


def check_sampling(request: GenerationRequest, tokens: int, max_tokens: int) -> None:
    """Raise InvalidRequest for parameters that contradict each other or the model.

    tokens: how many token ids the model can write. max_tokens: of this completion.
    """
    sampling, returns = request.sampling, request.returns
    for field, ids in (
        ("config.stop_token_ids", sampling.stop_token_ids),
        ("config.logit_bias", sampling.logit_bias),
        ("returns.logprob_token_ids", returns.logprob_token_ids),
    ):
        if any(token >= tokens or token < 0 for token in ids):
            raise make_field_error(
                field, f"must hold ids of this model's tokens only, from 0 to {tokens - 1}"
            )
    if request.constraint is not None:
        for name in _ENDS:
            if getattr(sampling, name):
                field = f"config.{name}"
                raise InvalidRequest(
                    f"{field} cannot be used with a constraint, which decides where the text ends: "
                    "leave one of them out",
                    field=field,
                )
    if (sampling.min_tokens or 0) > max_tokens and not isinstance(request.constraint, Choices):
        raise make_field_error("config.min_tokens", f"must not be over max_tokens, {max_tokens}")
