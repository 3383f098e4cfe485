"""Tiny models, made once for all tests of the service."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from services.hf.forward import CausalForward
from services.hf.loading import LoadedModel
from tests.support.tiny_models import make_checkpoint
from tests.unit.hf.asking import Stepped, load_tiny

#: An architecture's name, with "-chat" behind it for one that has a chat template.
Checkpoints = Callable[[str], Path]
Models = Callable[[str], LoadedModel]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """The folder of a tiny model; nobody changes what is in it."""

    @cache
    def make(name: str) -> Path:
        architecture, _, kind = name.partition("-")
        folder = tmp_path_factory.mktemp(name)
        return make_checkpoint(folder, architecture, chat=kind == "chat")

    return make


@pytest.fixture(scope="session")
def model(checkpoint: Checkpoints) -> Models:
    """A tiny model, loaded."""
    return cache(lambda name: load_tiny(checkpoint(name)))


@pytest.fixture
def loaded(model: Models) -> LoadedModel:
    return model("llama")


@pytest.fixture
def stepped(loaded: LoadedModel) -> Stepped:
    """With a prefix cache of its own, of about 1000 tokens."""
    return Stepped(CausalForward(loaded.forward.model, 32, 500_000))  # type: ignore[attr-defined]
