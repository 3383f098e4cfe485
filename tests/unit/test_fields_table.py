"""docs/fields.md has one row for each field, and says what the backends declare."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from services.common.backend import BaseLLMBackend
from services.common.fields import ALWAYS_HONOURED, PATHS
from tests.support.fields import EXAMPLES

TABLE = Path(__file__).parents[2] / "docs/fields.md"


def read_table() -> dict[str, dict[str, str]]:
    """Return what each backend does with each field."""
    rows = re.findall(r"^\| (`?)([\w.]+)\1 \| (.*) \|$", TABLE.read_text(), re.MULTILINE)
    (_, _, head), *body = rows
    backends = head.split(" | ")
    return {field: dict(zip(backends, cells.split(" | "), strict=True)) for _, field, cells in body}


ROWS = read_table()
#: Methods that a backend implements or refuses, by their row.
METHODS = {"Score": "can_score", "CountTokens": "can_count_tokens"}


def test_the_table_has_every_field_once() -> None:
    assert sorted(ROWS) == sorted({*(PATHS - ALWAYS_HONOURED), *METHODS})
    assert EXAMPLES.keys() == ROWS.keys() - METHODS.keys()


@pytest.mark.parametrize("backend", ROWS["Score"])
def test_the_table_says_what_a_backend_declares(backend: str) -> None:
    module = importlib.import_module(f"services.{backend}.backend")
    (kind,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseLLMBackend)
        and value.__module__ == module.__name__
    )
    for field, cells in ROWS.items():
        declared = getattr(kind, METHODS[field]) if field in METHODS else field in kind.fields
        assert cells[backend] in ("yes", "model") if declared else cells[backend] == "no", field
