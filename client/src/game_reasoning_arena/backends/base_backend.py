"""What a backend is, and the ones that the router serves."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import arena_llm

log = logging.getLogger(__name__)

#: Every backend's name, with the prefix of its models' names.
PREFIXES = {
    "openrouter": "openrouter_",
    "litellm": "litellm_",
    "vllm": "vllm_",
    "hf": "hf_",
}

_OPTIONS = {*arena_llm.GenerateOptions.__annotations__, "messages", "timeout"}


class BaseLLMBackend(ABC):
    """The base of every backend; derive from it for one of your own."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def generate_response(self, model_name: str, prompt: str, **options: Any) -> str:
        """Return the text of one completion."""

    @abstractmethod
    def is_model_available(self, model_name: str) -> bool:
        """Whether the model can be used now."""

    @abstractmethod
    def get_available_models(self) -> list[str]:
        """Return the full names of the backend's models."""

    def load_model(self, model_name: str) -> Any:
        """Return what stands for a loaded model: its name, unless a backend loads itself."""
        return model_name

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.name})"


class RoutedBackend(BaseLLMBackend):
    """A backend of the router. Models are named with the backend's prefix or without.

    config_file and user_config are accepted and have no effect: the backend's
    service has its own configuration and keys.
    """

    backend: ClassVar[str]

    def __init__(self, config_file: str | None = None, user_config: Any = None) -> None:
        super().__init__(self.backend)
        if config_file is not None or user_config:
            log.warning("%s is configured in its service: arguments are ignored", self.name)

    def generate_response(self, model_name: str, prompt: str, **options: Any) -> str:
        """Return the text of one completion; see llm_registry.generate_response."""
        return generate_response(self._full_name(model_name), prompt, **options)

    def is_model_available(self, model_name: str) -> bool:
        """Whether a call to the model would be tried now. Raises ArenaError."""
        return arena_llm.is_model_available(self._full_name(model_name))

    def get_available_models(self) -> list[str]:
        """Return the full names of the backend's models. Raises ArenaError."""
        prefix = PREFIXES[self.backend]
        return [name for name in arena_llm.get_available_models() if name.startswith(prefix)]

    def _full_name(self, model_name: str) -> str:
        prefix = PREFIXES[self.backend]
        return model_name if model_name.startswith(prefix) else prefix + model_name


def generate_response(
    model_name: str,
    prompt: str,
    max_tokens: int | None = None,
    temperature: float | None = None,
    **options: Any,
) -> str:
    """Return the text of one completion; see arena_llm.generate_response.

    The original takes any further option and ignores those that it does not
    know. So does this, with a line in the log.
    """
    if unknown := sorted(options.keys() - _OPTIONS):
        log.warning("generate_response ignores options that it does not know: %s", unknown)
    known = {name: value for name, value in options.items() if name in _OPTIONS}
    return arena_llm.generate_response(model_name, prompt, max_tokens, temperature, **known)
