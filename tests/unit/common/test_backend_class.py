"""A class of a backend that is not complete: the message says what it lacks."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from examples.parrot import ParrotBackend, ParrotConfig
from services.common.backend import BaseLLMBackend, check_backend
from services.common.config import ConfigError, SharedConfig
from services.common.server import main


class _Empty(BaseLLMBackend[Any]):
    name = "mine"
    config_type = ParrotBackend.config_type


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"name": "my_own"}, "must have a name of small letters and digits, such as 'parrot'"),
        ({"config_type": dict}, "must have a config_type, a subclass of services.common.config."),
        ({"fields": ["config.stop"]}, "must have fields that are a frozenset"),
        ({"generate_response": lambda self, request: None}, "with `async def`, not `def`; see"),
    ],
)
def test_what_is_wrong_is_named(members: dict[str, Any], says: str) -> None:
    check_backend(ParrotBackend)
    with pytest.raises(ConfigError) as caught:
        check_backend(type("Wrong", (ParrotBackend,), members))
    assert "Wrong" in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["openrouter", "litellm", "vllm", "hf"])
def test_our_own_backends_are_complete(name: str) -> None:
    module = import_module(f"services.{name}.backend")
    (backend,) = (
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and kind.__module__ == module.__name__
        and issubclass(kind, BaseLLMBackend)
    )
    check_backend(backend)


def test_a_service_says_it_in_place_of_a_traceback() -> None:
    with pytest.raises(SystemExit) as caught:
        main(_Empty)
    lacks = "lacks generate_response, get_available_models, is_model_available; see services."
    assert lacks in str(caught.value)


class _Config(SharedConfig, ParrotConfig):
    pass


class _NotMade(ParrotBackend):
    config_type = _Config

    def __init__(self, config: ParrotConfig) -> None:
        super().__init__(config)
        raise OSError("no such\ndevice")


class _NotStarted(ParrotBackend):
    config_type = _Config

    async def start(self) -> None:
        self.engine: Any = {}["engine"]

    async def aclose(self) -> None:
        self.engine.close()


@pytest.mark.integration  # starts a process
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("kind", "says", "events"),
    [
        (_NotMade, "OSError: no such device", {"the backend cannot start"}),
        (_NotStarted, "KeyError: 'engine'", {"the backend cannot start", "not stopped"}),
    ],
)
def test_a_backend_that_cannot_start_ends_the_service_with_one_line(
    tmp_path: Path, kind: type[ParrotBackend], says: str, events: set[str], workers: int
) -> None:
    config = tmp_path / "parrot.yaml"
    config.write_text(f"listen: 127.0.0.1:0\nworkers: {workers}\nmodels: [parrot_a]\n")
    code = (
        f"from services.common.server import main; from {__name__} import {kind.__name__}\n"
        f"main({kind.__name__})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--config", config], capture_output=True, text=True, timeout=60
    )
    line = f"the backend {__name__}.{kind.__name__} cannot start: {says}"
    assert done.returncode == 1
    assert line in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    # The log has the frames, also those of a backend that cannot be closed after that.
    logged = {line for line in done.stderr.splitlines() if "frames=" in line}
    assert {line.partition("event=")[2].split('"')[1] for line in logged} == events
    assert all("test_backend_class.py" in line for line in logged)
