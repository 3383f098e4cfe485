"""Tiny models, shared by all tests of the service."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import services.hf.pool
from services.hf.forward_causal import CausalForward
from services.hf.loading import LoadedModel
from tests.support.tiny_models import make_checkpoint
from tests.unit.hf.engine_driver import Stepped, load_tiny

#: Takes the name of an architecture, followed by "-chat" for a model with a chat template.
Checkpoints = Callable[[str], Path]
#: Takes this name, and the engine: transformers, which is the default, or openvino.
Models = Callable[..., LoadedModel]

ENGINES = ("transformers", "openvino")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of `loaded` runs on both engines, unless it needs the passes of transformers."""
    if "engine_name" in metafunc.fixturenames:
        both = "stepped" not in metafunc.fixturenames
        metafunc.parametrize("engine_name", ENGINES if both else ENGINES[:1])


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """The folder of a tiny model. Tests must not change it."""

    @cache
    def make(name: str) -> Path:
        architecture, _, kind = name.partition("-")
        folder = tmp_path_factory.mktemp(name)
        return make_checkpoint(folder, architecture, chat=kind == "chat")

    return make


@pytest.fixture(scope="session")
def model(checkpoint: Checkpoints) -> Models:
    """A tiny model, loaded."""
    return cache(lambda name, engine="transformers": load_tiny(checkpoint(name), engine=engine))


@pytest.fixture
def loaded(model: Models, engine_name: str) -> LoadedModel:
    return model("llama", engine_name)


@pytest.fixture
def stepped(loaded: LoadedModel) -> Stepped:
    """A Stepped forward with a new prefix cache of about 1000 tokens."""
    known: Any = loaded.forward
    forward = CausalForward(known.model, 32, 500_000)
    forward.size.token_bytes = known.size.token_bytes  # as after the test of a model that is loaded
    return Stepped(forward)


@pytest.fixture
def entry(checkpoint: Checkpoints) -> Callable[..., dict[str, Any]]:
    """An entry with this name. All are the same tiny llama."""

    def make(name: str, **more: Any) -> dict[str, Any]:
        prefixes = {"prefix_cache_gb": 0.0}
        return {"name": name, "model_path": checkpoint("llama"), **prefixes, **more}

    return make


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models that were loaded, in order."""
    names: list[str] = []
    real = services.hf.pool.load

    def counted(entry: Any, *arguments: Any) -> Any:
        names.append(entry.name)
        return real(entry, *arguments)

    monkeypatch.setattr(services.hf.pool, "load", counted)
    return names
