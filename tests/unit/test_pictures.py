"""Every picture of the documentation is made by a script, is shown, and says what is seen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.images.terminal import COLUMNS, Screen, draw

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
PICTURES = sorted(path.name for path in IMAGES.iterdir() if path.suffix in (".png", ".svg"))
SCRIPTS = [IMAGES / "take.py", ROOT / "bench" / "fleet.py"]


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_made_by_a_script_and_shown(name: str) -> None:
    assert any(re.search(rf'["/]{re.escape(name)}\b', script.read_text()) for script in SCRIPTS)
    pattern = rf"!\[(.*)\]\(.*images/{re.escape(name)}\)"
    shown = [alt for page in PAGES for alt in re.findall(pattern, _read(page))]
    assert shown
    assert all(len(alt) > 20 for alt in shown), "the text says what is seen"
    assert (IMAGES / name).stat().st_size < 200_000


def test_a_script_names_no_other_picture() -> None:
    made = {
        name for script in SCRIPTS for name in re.findall(r"[\w-]+\.(?:png|svg)\b", _read(script))
    }
    assert made == set(PICTURES)


def _read(path: Path) -> str:
    return path.read_text()


def shown_after(*chunks: str) -> list[str]:
    screen = Screen()
    for chunk in chunks:
        screen.feed(chunk)
    return screen.text().split("\n")


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        (["one\r\ntwo"], ["one", "two"]),
        (["12 %\r13"], ["13 %"]),
        (["old line\r\x1b[2Knew"], ["new"]),
        (["a\r\nb\r\n\x1b[2A\x1b[2Kc\x1b[1B\rd"], ["c", "d", ""]),  # a bar that is drawn again
        (["old\x1b[?1049h\x1b[Hnew"], ["new"]),  # a second screen
        (["cut \x1b[3", "1mred\x1b[0m"], ["cut red"]),
        (["x" * COLUMNS + "\r\ny"], ["x" * COLUMNS, "y"]),  # no empty line between
        (["x" * COLUMNS + "y"], ["x" * COLUMNS, "y"]),
        (["abc\b\b\x1b[K"], ["a"]),
    ],
)
def test_a_screen_shows_what_a_terminal_shows(output: list[str], lines: list[str]) -> None:
    assert shown_after(*output) == lines


def test_a_drawing_keeps_colours_and_loads_nothing(tmp_path: Path) -> None:
    screen = Screen()
    screen.feed("plain \x1b[31mred\x1b[0m\r\n$ ")
    draw(screen.ansi().split("\n"), "title", tmp_path / "picture.svg")
    svg = (tmp_path / "picture.svg").read_text()
    assert "red" in svg
    assert "#ff7b72" in svg
    assert "url(http" not in svg
    assert "@font-face" not in svg
