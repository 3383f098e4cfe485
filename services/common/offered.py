"""Backends of installed packages: entry points of the group `arena_llm.backends`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from services.common.backend import BaseLLMBackend, check_backend
from services.common.config import ConfigError

GROUP = "arena_llm.backends"


def list_offered() -> list[EntryPoint]:
    """The entry points, by name; a name that several packages offer is there once."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    return [found[name] for name in sorted(found)]


def load_offered(point: EntryPoint) -> type[BaseLLMBackend[Any]]:
    """The class that an entry point names. Raises ConfigError."""
    package = point.dist.name if point.dist else "?"
    where = f"the backend {point.name} ({point.value} of the package {package})"
    offers = {other.value for other in entry_points(group=GROUP, name=point.name)}
    if len(offers) > 1:
        names = " and ".join(sorted(offers))
        raise ConfigError(f"the backend {point.name} is offered twice, by {names}: remove one")
    try:
        backend = point.load()
    except Exception as error:  # a module may raise anything while it is imported
        raise ConfigError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
    if not (isinstance(backend, type) and issubclass(backend, BaseLLMBackend)):
        raise ConfigError(f"{where} is not a subclass of services.common.backend.BaseLLMBackend")
    check_backend(backend)
    if backend.name != point.name:
        raise ConfigError(f"{where} has the name {backend.name!r}: both names must be the same")
    return backend
