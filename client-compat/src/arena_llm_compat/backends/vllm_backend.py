"""Models of vLLM."""

from .base_backend import RoutedBackend


class VLLMBackend(RoutedBackend):
    """The backend `vllm`."""

    backend = "vllm"
