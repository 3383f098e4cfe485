"""The path of a results file, and the file of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arena.results.store import Store
from tests.support.result_rows import EXPERIMENT, MODELS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "one.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path, EXPERIMENT, MODELS) as store:
        yield store
