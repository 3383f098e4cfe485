"""The functions and classes that docs/architecture.md names are in the files that it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\|.*\| `([\w/]+\.py)` \| `(\w+)` \|$",
    (ROOT / "docs/architecture.md").read_text(),
    re.MULTILINE,
)


def test_the_tables_are_found() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize(("path", "name"), ROWS)
def test_the_file_defines_the_name(path: str, name: str) -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
