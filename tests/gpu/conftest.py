"""Tests that need a GPU, `make test-gpu`. They are skipped on a machine without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.environment import has_gpu


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            # The first test of a file starts engines.
            item.add_marker(pytest.mark.timeout(900))
            if not has_gpu():
                item.add_marker(pytest.mark.skip(reason="this machine has no NVIDIA GPU"))
