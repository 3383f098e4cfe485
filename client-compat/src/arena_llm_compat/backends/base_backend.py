"""The base class of backends, and the class of a backend behind the router."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import arena_llm

log = logging.getLogger(__name__)

#: The reason of an error about a model's prefix.
UNKNOWN_PREFIX = "UNKNOWN_PREFIX"

#: The parts of a model's name: its backend, and its name without the prefix. The router knows
#: which backends exist, and refuses a call with an unknown prefix.
_MODEL_NAME = re.compile("([a-z][a-z0-9]*)_(.+)", re.DOTALL)

_OPTIONS = {*arena_llm.GenerateOptions.__annotations__, "messages", "timeout"}


class UnknownPrefixError(arena_llm.NotFoundError, ValueError):
    """No backend has the prefix of a model's name; a ValueError, as in the original."""


def split_model_name(model_name: str) -> tuple[str, str]:
    """Return backend and name: ("hf", "gpt2") for "hf_gpt2".

    Raises UnknownPrefixError for a name without the prefix of a backend.
    """
    match = _MODEL_NAME.fullmatch(model_name)
    if match is None:
        raise UnknownPrefixError(
            f"the name {model_name!r} does not begin with a backend and an underscore, "
            "such as openrouter_ or hf_",
            reason=UNKNOWN_PREFIX,
            model=model_name,
        )
    return match[1], match[2]


class BaseLLMBackend(ABC):
    """The base class of backends. A backend must define the two abstract methods."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def generate_response(self, model_name: str, prompt: str, **options: Any) -> str:
        """Return the text of one completion."""

    @abstractmethod
    def is_model_available(self, model_name: str) -> bool:
        """Return whether the model can be used now."""

    def get_available_models(self) -> list[str]:
        """Return the names of the backend's models; by default those of load_models()."""
        return self.load_models()

    def load_models(self) -> list[str]:
        """Return the names of the backend's models, by default an empty list."""
        return []

    def load_model(self, model_name: str) -> Any:
        """Load a model. By default nothing is loaded, and the name is returned."""
        return model_name

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.name})"


class RoutedBackend(BaseLLMBackend):
    """A backend behind the router. Its methods accept model names with and without prefix.

    config_file and user_config have no effect: the backend's service has its own
    configuration and keys.
    """

    backend: ClassVar[str]

    def __init__(self, config_file: str | None = None, user_config: Any = None) -> None:
        super().__init__(self.backend)
        if config_file is not None or user_config:
            log.warning("the service %s has its own configuration: arguments ignored", self.name)

    def generate_response(self, model_name: str, prompt: str, **options: Any) -> str:
        """Return the text of one completion; see llm_registry.generate_response."""
        return generate_response(self._full_name(model_name), prompt, **options)

    def is_model_available(self, model_name: str) -> bool:
        """Return whether the model can be used now. Raises ArenaError."""
        return arena_llm.is_model_available(self._full_name(model_name))

    def get_available_models(self) -> list[str]:
        """Return the full names of the backend's models. Raises ArenaError."""
        names = arena_llm.get_available_models()
        return [name for name in names if name.startswith(f"{self.backend}_")]

    def load_models(self) -> list[str]:
        """Return the full names of the backend's models. Raises ArenaError."""
        return self.get_available_models()

    def _full_name(self, model_name: str) -> str:
        prefix = f"{self.backend}_"
        return model_name if model_name.startswith(prefix) else prefix + model_name


def generate_response(
    model_name: str,
    prompt: str,
    max_tokens: int | None = None,
    temperature: float | None = None,
    **options: Any,
) -> str:
    """Return the text of one completion; see arena_llm.generate_response.

    As in the original, unknown options are ignored, here with a warning in the log.
    Raises UnknownPrefixError and other ArenaErrors.
    """
    if unknown := sorted(options.keys() - _OPTIONS):
        log.warning("generate_response ignores unknown options: %s", unknown)
    supported = {name: value for name, value in options.items() if name in _OPTIONS}
    try:
        return arena_llm.generate_response(model_name, prompt, max_tokens, temperature, **supported)
    except arena_llm.NotFoundError as error:
        if error.reason != UNKNOWN_PREFIX:
            raise
        raise UnknownPrefixError(
            error.message, reason=error.reason, model=error.model, field=error.field
        ) from None
