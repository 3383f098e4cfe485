"""Golden files: generated texts that a person has read once, and that tests compare with.

`python -m tests.golden [NAME ...]` writes them again after an intended change. Read the
difference before you commit it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.golden.playthrough import GAMES, write_playthrough
from tests.golden.report import write_json, write_page_text, write_terminal

FOLDER = Path(__file__).parent

#: The path of each golden file in this folder, and the function that generates its text.
GOLDEN: Mapping[str, Callable[[], str]] = {
    **{
        f"games/{name}.txt": lambda case=case: write_playthrough(*case)
        for name, case in GAMES.items()
    },
    "report/terminal.txt": lambda: write_terminal(160),
    "report/terminal_80_columns.txt": lambda: write_terminal(80),
    "report/tables.json": write_json,
    "report/page.txt": write_page_text,
}


def compare(name: str) -> None:
    """Assert that a golden file is equal to its generated text."""
    expected = (FOLDER / name).read_text(encoding="utf-8")
    assert GOLDEN[name]() == expected, f"if this is right, run: python -m tests.golden {name}"
