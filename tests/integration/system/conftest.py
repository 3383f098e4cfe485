"""One running system for the tests of this folder, with its logs in the report of a failure."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.support.system import PLANTED_KEYS, PLANTED_VALUE, System

_running = pytest.StashKey[System]()


@pytest.fixture(scope="package")
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """All services of `make up`, serving. A test that kills one waits until it is back."""
    planted = dict.fromkeys(PLANTED_KEYS, PLANTED_VALUE)
    system = System(tmp_path_factory.mktemp("system") / "run", planted)
    request.config.stash[_running] = system
    try:
        system.up()
        yield system
    finally:
        system.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    system = item.config.stash.get(_running, None)
    if report.failed and system and "system" in getattr(item, "fixturenames", ()):
        report.sections.append(("logs of the running system", system.logs()))
    return report
