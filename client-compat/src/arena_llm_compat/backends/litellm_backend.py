"""Models of litellm's providers."""

from .base_backend import RoutedBackend


class LiteLLMBackend(RoutedBackend):
    """The backend `litellm`."""

    backend = "litellm"
