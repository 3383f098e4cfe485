"""Models of OpenRouter."""

from .base_backend import RoutedBackend


class OpenRouterBackend(RoutedBackend):
    """The backend `openrouter`."""

    backend = "openrouter"
