"""Gives the tests of this folder a small system."""

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
