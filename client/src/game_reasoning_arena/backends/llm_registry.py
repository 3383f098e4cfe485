"""The original arena's model registry, over Arena LLM's router."""

from __future__ import annotations

from arena_llm import (
    Client,
    Model,
    NotFoundError,
    generate_response,
    get_available_models,
    is_model_available,
)

__all__ = [
    "LLM_REGISTRY",
    "detect_model_backend",
    "generate_response",
    "get_available_models",
    "initialize_llm_registry",
    "is_model_available",
]

#: Full model name -> the model, as of the last initialize_llm_registry().
LLM_REGISTRY: dict[str, Model] = {}

_PREFIXES = {
    "openrouter_": "openrouter",
    "litellm_": "litellm",
    "vllm_": "vllm",
    "hf_": "hf",
}


def initialize_llm_registry() -> dict[str, Model]:
    """Fill LLM_REGISTRY with every model that can be reached now, and return it.

    Raises ArenaError, and leaves the registry as it was, where nothing answers.
    """
    with Client() as llm:
        models = {model.name: model for model in llm.list_models()}
    LLM_REGISTRY.clear()
    LLM_REGISTRY.update(models)
    return LLM_REGISTRY


def detect_model_backend(model_name: str) -> str:
    """Return the backend that a model's prefix names, such as "hf" for "hf_gpt2".

    Raises NotFoundError (reason UNKNOWN_PREFIX) for any other prefix.
    """
    for prefix, backend in _PREFIXES.items():
        if model_name.startswith(prefix):
            return backend
    raise NotFoundError(
        f"no backend has the prefix of {model_name!r}; known are {', '.join(_PREFIXES)}",
        reason="UNKNOWN_PREFIX",
        model=model_name,
    )
