"""The original arena's model registry, over Arena LLM's router."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from arena_llm import (
    ArenaError,
    Client,
    Model,
    get_available_models,
    is_model_available,
)
from arena_llm.terminal import escape_on_terminal, escape_unsafe

from .base_backend import (
    generate_response,
    split_model_name,
)

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


_KEYS = ("display_name", "model_loader", *Model.__dataclass_fields__)


class RegisteredModel(Model, Mapping[str, Any]):
    """A Model that is also a mapping with the original's keys, such as entry["backend"]."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        if key == "display_name":
            return self.name
        if key == "model_loader":
            return lambda: self.name
        if key in _KEYS:
            return getattr(self, key)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(_KEYS)

    def __len__(self) -> int:
        return len(_KEYS)


#: The models by full name, as of the last initialize_llm_registry().
LLM_REGISTRY: dict[str, Any] = {}


def initialize_llm_registry(user_config: Any = None) -> dict[str, Any]:
    """Fill LLM_REGISTRY with every reachable model, and return it.

    If the models cannot be listed, the registry is empty and a warning in the log says
    why, so that a program that calls this at import does not fail.

    user_config: ignored, because the services have their own configuration.
    """
    LLM_REGISTRY.clear()
    try:
        with Client(timeout=_TIMEOUT) as llm:
            models = llm.list_models()
    except ArenaError as error:
        log.warning("the model registry is empty: %s", escape_unsafe(str(error)))
        return LLM_REGISTRY
    for missing in models.unreachable:
        detail = escape_unsafe(missing.detail)
        log.warning("the model registry lacks the models of %s: %s", missing.backend, detail)
    for model in models:
        values = {field.name: getattr(model, field.name) for field in fields(model)}
        LLM_REGISTRY[model.name] = RegisteredModel(**values)
    return LLM_REGISTRY


def detect_model_backend(model_name: str) -> str:
    """Return the backend that a model's prefix names, such as "hf" for "hf_gpt2".

    Raises UnknownPrefixError for a name without a prefix.
    """
    return split_model_name(model_name)[0]


def extract_model_name(full_model_name: str) -> str:
    """Return a model's name without its prefix. Raises UnknownPrefixError."""
    return split_model_name(full_model_name)[1]


def get_backend_for_model(model_name: str) -> str:
    """Return a model's backend, from the registry or by its prefix. Raises UnknownPrefixError."""
    if model_name in LLM_REGISTRY:
        return str(LLM_REGISTRY[model_name]["backend"])
    return detect_model_backend(model_name)


def list_models() -> None:
    """Print the models of the registry with their backends."""
    lines = [f"{name:<40} ({get_backend_for_model(name)})" for name in sorted(LLM_REGISTRY)]
    text = "\n".join(lines or ["No models registered."])
    print(escape_on_terminal(sys.stdout, text))  # noqa: T201 - its purpose
