"""Marks every test of this folder, and gives it a small system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.system import SmallSystem


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallSystem]:
    """A small system that is not up. The path of its run folder is too long for a socket."""
    small = SmallSystem(tmp_path / ("a long % path " * 8) / "run")
    yield small
    small.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)
            if not item.get_closest_marker("timeout"):
                # The first test of a file starts its servers.
                item.add_marker(pytest.mark.timeout(600))
