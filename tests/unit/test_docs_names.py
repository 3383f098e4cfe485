"""docs/architecture.md names functions that exist; README.md names every page and folder."""

from __future__ import annotations

import ast
import re
import subprocess
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


def test_the_readme_lists_every_page_and_every_folder() -> None:
    text = (ROOT / "README.md").read_text()
    pages = [path.relative_to(ROOT) for path in ROOT.glob("docs/*.md")]
    missing = [str(page) for page in pages if f"| [{page}]({page}) |" not in text]
    folders = subprocess.run(
        ["git", "ls-tree", "-d", "--name-only", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    missing += [name for name in folders if name[0] != "." and f"\n{name}/" not in text]
    assert not missing
