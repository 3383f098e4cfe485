"""One running system for all integration tests, and its logs where one fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.system import System

if TYPE_CHECKING:
    from tests.support.vllm import VllmProcess

_running = pytest.StashKey[System]()


@pytest.fixture(scope="session")
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Router and hf service, serving; whoever kills a process waits for its return."""
    system = System(tmp_path_factory.mktemp("system") / "run")
    request.config.stash[_running] = system
    try:
        system.up()
        yield system
    finally:
        system.down()


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmProcess]:
    """The vllm service alone: small engines, among them the embedded model's, and entries
    that cannot run. Starting it takes a minute."""
    # It imports torch, which the other tests do not wait for.
    from tests.support.vllm import VllmProcess, broken_models, require_vllm, serving_models

    require_vllm()
    folder = tmp_path_factory.mktemp("vllm")
    models = [*serving_models(folder), *broken_models(folder)]
    with VllmProcess(folder, models, max_waiting=200) as process:
        yield process


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)
            if not item.get_closest_marker("timeout"):
                # The first test of a run starts the system.
                item.add_marker(pytest.mark.timeout(600))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    system = item.config.stash.get(_running, None)
    if report.failed and system and "system" in getattr(item, "fixturenames", ()):
        report.sections.append(("logs of the running system", system.logs()))
    return report
