"""Models of transformers."""

from .base_backend import RoutedBackend


class HuggingFaceBackend(RoutedBackend):
    """The backend `hf`."""

    backend = "hf"
