"""The functions of the package, over one client that all of them share."""

from __future__ import annotations

from functools import cache
from typing import Any

from arena_llm.client import Client
from arena_llm.errors import NotFoundError


@cache
def _client() -> Client:
    """Made by the first call, which reads ARENA_LLM_TARGET."""
    return Client()


def generate_response(
    model_name: str,
    prompt: str,
    max_tokens: int | None = None,
    temperature: float | None = None,
    **options: Any,
) -> str:
    """Return the text of one completion.

    max_tokens: most completion tokens; None means the backend's default.
    temperature: 0 (greedy) to 100; None means the backend's default.
    options: all further ones of Client.generate.
    Raises ArenaError; see arena_llm.errors.
    """
    completion = _client().generate(
        model_name, prompt, max_tokens=max_tokens, temperature=temperature, **options
    )
    return completion.text


def is_model_available(model_name: str) -> bool:
    """Whether a call to the model would be tried now; False for an unknown model.

    Raises ArenaError where that cannot be found out; see Client.is_available for why not.
    """
    try:
        return _client().is_available(model_name).available
    except NotFoundError:
        return False


def get_available_models() -> list[str]:
    """Return the full name of every model that can be reached. Raises ArenaError."""
    return [model.name for model in _client().list_models()]
