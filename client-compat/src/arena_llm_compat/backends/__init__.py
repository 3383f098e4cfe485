"""The names of the original arena's backends package, over Arena LLM's router."""

from .base_backend import BaseLLMBackend
from .huggingface_backend import HuggingFaceBackend
from .litellm_backend import LiteLLMBackend
from .llm_registry import (
    LLM_REGISTRY,
    detect_model_backend,
    extract_model_name,
    generate_response,
    get_available_models,
    get_backend_for_model,
    initialize_llm_registry,
    is_model_available,
    list_models,
)
from .openrouter_backend import OpenRouterBackend
from .vllm_backend import VLLMBackend

__all__ = [
    "LLM_REGISTRY",
    "BaseLLMBackend",
    "HuggingFaceBackend",
    "LiteLLMBackend",
    "OpenRouterBackend",
    "VLLMBackend",
    "detect_model_backend",
    "extract_model_name",
    "generate_response",
    "get_available_models",
    "get_backend_for_model",
    "initialize_llm_registry",
    "is_model_available",
    "list_models",
]
