"""Starts the backend under test behind the real servicer and server, and behind a router.

    pytest tests/conformance --backend package.module:Class [--config FILE ...] [--model NAME]

Without --backend, the suite tests the example parrot, the hf service, the openrouter and litellm
services in front of fake providers, the vllm service with its engine, and the hf service on Ray
Serve.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import pytest_asyncio

from services.common.backend import BaseLLMBackend, check_backend
from services.common.config import ConfigError, load_config
from tests.conformance.targets import (
    Door,
    Target,
    join_ray,
    join_vllm,
    serve,
    serve_hf,
    serve_hosted,
    serve_parrot,
)
from tests.support.edge import needs_envoy

#: The targets without --backend. Those of HOSTED are fake providers.
HOSTED = ("openrouter", "openai", "anthropic", "gemini")
NAMES = ("parrot", "hf", *HOSTED, "vllm", "ray")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "the conformance suite for backends")
    group.addoption("--backend", metavar="MODULE:CLASS", help="the backend to test")
    group.addoption(
        "--config",
        action="append",
        type=Path,
        metavar="FILE",
        help="a configuration of it; once for each that is to be tested",
    )
    group.addoption(
        "--patience",
        type=float,
        default=20.0,
        metavar="SECONDS",
        help="how long a cancelled call may take to leave the backend; default: 20",
    )
    group.addoption("--model", help="the model to call; default: the first that is listed")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--backend", default=None):
        load_backend(path)


def load_backend(path: str) -> type[BaseLLMBackend[Any]]:
    """Return the class that MODULE:CLASS names. Raises UsageError if there is none."""
    module, _, name = path.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        backend = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise pytest.UsageError(f"--backend {path}: {error}; write package.module:Class") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not (isinstance(backend, type) and issubclass(backend, BaseLLMBackend)):
        raise pytest.UsageError(f"--backend {path}: is not a subclass of BaseLLMBackend")
    try:
        check_backend(backend)
    except ConfigError as error:
        raise pytest.UsageError(f"--backend {path}: {error}") from error
    return backend


class Case(NamedTuple):
    """A target: the name of a built-in one, or MODULE:CLASS of another with its configuration."""

    name: str
    file: Path | None
    door: Door

    @property
    def id(self) -> str:
        words = [self.name.rpartition(":")[2]]
        words += [self.file.stem] if self.file else []
        return "-".join(words if self.door == "service" else (*words, self.door))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" not in metafunc.fixturenames:
        return
    option = metafunc.config.getoption
    names: list[tuple[str, Path | None]] = [(name, None) for name in NAMES]
    if chosen := option("--backend", default=None):
        names = [(chosen, file) for file in option("--config", default=None) or [None]]
    cases = [Case(*name, door) for name in names for door in get_args(Door) if _fits(*name, door)]
    parameters = [pytest.param(case, id=case.id, marks=_mark(case)) for case in cases]
    metafunc.parametrize("target", parameters, indirect=True, scope="module")


def _fits(name: str, _: Path | None, door: Door) -> bool:
    """Whether to test this door of a target. Envoy is tested for one target of each kind.

    Ray Serve is tested behind the router alone, which sends the deadline as metadata.
    """
    if name == "ray":
        return door == "router"
    return door != "edge" or name not in ("anthropic", "gemini", "openai", "vllm")


def _mark(case: Case) -> list[pytest.MarkDecorator]:
    """The marks of all tests of a target."""
    return [*_mark_backend(case), *([needs_envoy] if case.door == "edge" else [])]


def _mark_backend(case: Case) -> list[pytest.MarkDecorator]:
    if case.name in HOSTED:
        from tests.support.providers import LITELLM_WARNINGS

        return [pytest.mark.filterwarnings(warning) for warning in LITELLM_WARNINGS]
    if case.name not in ("vllm", "ray"):
        return []
    # The first test starts an engine, or a cluster: `make test-cluster`.
    slow = [pytest.mark.integration, pytest.mark.timeout(600)]
    return [*slow, pytest.mark.cluster] if case.name == "ray" else slow


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Target, None]:
    """The backend with one of its configurations, ready to be called."""
    async with _open(request.param, request, tmp_path_factory) as target:
        yield target


def _open(
    case: Case, request: pytest.FixtureRequest, folders: pytest.TempPathFactory
) -> AbstractAsyncContextManager[Target]:
    match case.name:
        case "parrot":
            return serve_parrot(case.door)
        case "hf":
            return serve_hf(case.door, folders.mktemp("hf"))
        case "vllm":
            return join_vllm(case.door, request.getfixturevalue("local_system"))
        case "ray":
            return join_ray(request.getfixturevalue("ray_serve"))
        case name if name in HOSTED:
            return serve_hosted(name, case.door)
    backend = load_backend(case.name)
    config = (
        backend.config_type.model_validate({"listen": "127.0.0.1:0"})
        if case.file is None
        else load_config(case.file, backend.config_type)
    )
    option = request.config.getoption
    return serve(backend(config), case.door, option("--model") or "", option("--patience"))
