"""The system that the tests of this folder share, and each of its services with models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from arena_llm import Client
from tests.support.local_models import LocalService
from tests.support.system import System


@pytest.fixture(scope="package")
def system(local_system: System) -> Iterator[System]:
    """The shared system. These tests are the last that use it, and they end its processes."""
    yield local_system
    local_system.down()


@pytest.fixture(params=["hf", "vllm"])
def service(request: pytest.FixtureRequest, system: System) -> LocalService:
    """Each service that runs models on this machine."""
    return LocalService(request.param, system)


@pytest.fixture
def llm(service: LocalService) -> Iterator[Client]:
    """A client of the service itself, without the router."""
    with Client(service.address) as client:
        yield client
