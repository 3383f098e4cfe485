"""Models of transformers."""

from game_reasoning_arena.backends.base_backend import RoutedBackend


class HuggingFaceBackend(RoutedBackend):
    """The backend `hf`."""

    backend = "hf"
