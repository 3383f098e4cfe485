"""Marks every test of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)
            if not item.get_closest_marker("timeout"):
                # The first test of a file starts its servers.
                item.add_marker(pytest.mark.timeout(600))
