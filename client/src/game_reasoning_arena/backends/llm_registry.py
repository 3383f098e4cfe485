"""The original arena's model registry, over Arena LLM's router."""

from __future__ import annotations

import logging
import sys
from dataclasses import fields
from typing import Any

from arena_llm import (
    ArenaError,
    Client,
    Model,
    NotFoundError,
    get_available_models,
    is_model_available,
)
from arena_llm.terminal import shown_on, visible
from game_reasoning_arena.backends.base_backend import PREFIXES, generate_response

__all__ = [
    "LLM_REGISTRY",
    "detect_model_backend",
    "extract_model_name",
    "generate_response",
    "get_available_models",
    "get_backend_for_model",
    "initialize_llm_registry",
    "is_model_available",
    "list_models",
]

log = logging.getLogger(__name__)

#: Seconds for the router to list its models.
_TIMEOUT = 30.0


class RegisteredModel(Model):
    """A model, whose attributes and the original's keys can be looked up: entry["backend"]."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        match key:
            case "display_name":
                return self.name
            case "model_loader":
                return lambda: self.name
        if key in Model.__dataclass_fields__:
            return getattr(self, key)
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default."""
        try:
            return self[key]
        except KeyError:
            return default


class UnknownPrefixError(NotFoundError, ValueError):
    """A model's name begins with no backend's prefix; a ValueError, as in the original."""


#: Full model name -> the model, as of the last initialize_llm_registry().
LLM_REGISTRY: dict[str, Any] = {}


def initialize_llm_registry(user_config: Any = None) -> dict[str, Any]:
    """Fill LLM_REGISTRY with every model that can be reached now, and return it.

    Where the models cannot be listed, a warning in the log says why and the
    registry is empty: a program may call this while it is imported.

    user_config: accepted and without effect, because the services have their own.
    """
    LLM_REGISTRY.clear()
    try:
        with Client(timeout=_TIMEOUT) as llm:
            models = llm.list_models()
    except ArenaError as error:
        log.warning("the model registry is empty: %s", visible(str(error)))
        return LLM_REGISTRY
    for missing in models.unreachable:
        detail = visible(missing.detail)
        log.warning("the model registry lacks the models of %s: %s", missing.backend, detail)
    for model in models:
        values = {field.name: getattr(model, field.name) for field in fields(model)}
        LLM_REGISTRY[model.name] = RegisteredModel(**values)
    return LLM_REGISTRY


def detect_model_backend(model_name: str) -> str:
    """Return the backend that a model's prefix names, such as "hf" for "hf_gpt2".

    Raises UnknownPrefixError (reason UNKNOWN_PREFIX) for any other prefix.
    """
    for backend, prefix in PREFIXES.items():
        if model_name.startswith(prefix):
            return backend
    raise UnknownPrefixError(
        f"no backend has the prefix of {model_name!r}; known are {', '.join(PREFIXES.values())}",
        reason="UNKNOWN_PREFIX",
        model=model_name,
    )


def extract_model_name(full_model_name: str) -> str:
    """Return a model's name without its prefix. Raises UnknownPrefixError."""
    return full_model_name.removeprefix(PREFIXES[detect_model_backend(full_model_name)])


def get_backend_for_model(model_name: str) -> str:
    """Return a model's backend, from the registry or by its prefix. Raises UnknownPrefixError."""
    if model_name in LLM_REGISTRY:
        return str(LLM_REGISTRY[model_name]["backend"])
    return detect_model_backend(model_name)


def list_models() -> None:
    """Print the models of the registry with their backends."""
    lines = [f"{name:<40} ({get_backend_for_model(name)})" for name in sorted(LLM_REGISTRY)]
    text = "\n".join(lines or ["No models registered."])
    print(shown_on(sys.stdout, text))  # noqa: T201 - which is what it is for
