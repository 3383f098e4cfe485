"""The functions of the package. They share one client."""

from __future__ import annotations

from functools import cache
from typing import Any

from arena_llm.client import Client
from arena_llm.errors import NotFoundError


@cache
def _client() -> Client:
    """Return the shared client. The first call makes it and reads the environment."""
    return Client()


def generate_response(
    model_name: str,
    prompt: str,
    max_tokens: int | None = None,
    temperature: float | None = None,
    **options: Any,
) -> str:
    """Return the text of one completion.

    All options are those of Client.generate. Raises ArenaError; see arena_llm.errors.
    """
    completion = _client().generate(
        model_name, prompt, max_tokens=max_tokens, temperature=temperature, **options
    )
    return completion.text


def is_model_available(model_name: str) -> bool:
    """Return whether the model is usable now; False for an unknown model.

    Client.is_available also says why not. Raises ArenaError if the check itself fails.
    """
    try:
        return _client().is_available(model_name).available
    except NotFoundError:
        return False


def get_available_models() -> list[str]:
    """Return the full name of every reachable model. Raises ArenaError."""
    return [model.name for model in _client().list_models()]
