"""Models of litellm's providers."""

from game_reasoning_arena.backends.base_backend import RoutedBackend


class LiteLLMBackend(RoutedBackend):
    """The backend `litellm`."""

    backend = "litellm"
