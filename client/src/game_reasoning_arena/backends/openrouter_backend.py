"""Models of OpenRouter."""

from game_reasoning_arena.backends.base_backend import RoutedBackend


class OpenRouterBackend(RoutedBackend):
    """The backend `openrouter`."""

    backend = "openrouter"
