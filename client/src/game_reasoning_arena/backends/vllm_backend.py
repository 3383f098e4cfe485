"""Models of vLLM."""

from game_reasoning_arena.backends.base_backend import RoutedBackend


class VLLMBackend(RoutedBackend):
    """The backend `vllm`."""

    backend = "vllm"
