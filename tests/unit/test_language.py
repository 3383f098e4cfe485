"""Comments, messages and documentation are in plain words."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Words that our texts once used in a way of their own, and the plain ones.
PLAIN = {
    "told": "reported, says, gets",
    "anew": "again",
    "mend": "fix",
    "mended": "fixed",
    "mending": "fixing",
    "whoever": "the caller, the process",
    "whatever": "any, everything",
    "gone on with": "continued",
    "in vain": "without success",
}
_WORD = re.compile(rf"\b({'|'.join(PLAIN)})\b", re.IGNORECASE)

#: Where the texts are checked.
PLACES = (
    *("README.md", "CONTRIBUTING.md", "docs", "Makefile", "pyproject.toml", "proto", "configs"),
    *("client/src", "router", "services/common", "services/openrouter", "services/litellm"),
    *("deploy", "scripts", "examples", "bench", "tests/conformance", "tests/unit/router"),
)


def texts() -> list[str]:
    """The tracked files with text of ours."""
    listed = subprocess.run(
        ["git", "ls-files", *PLACES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    kinds = (".py", ".md", ".proto", ".yaml", ".toml", ".j2", ".js", "Makefile")
    return [
        name for name in listed if name.endswith(kinds) and name != "tests/unit/test_language.py"
    ]


def test_there_are_texts_to_check() -> None:
    assert {"router/servicer.py", "README.md"} <= set(texts())


@pytest.mark.parametrize("place", PLACES)
def test_no_text_uses_a_word_that_has_a_plain_one(place: str) -> None:
    lines = [
        f"{name}:{number}: {match[0]} -> {PLAIN[match[0].lower()]}"
        for name in texts()
        if name == place or name.startswith(f"{place}/")
        if (ROOT / name).is_file()
        for number, line in enumerate((ROOT / name).read_text(errors="replace").splitlines(), 1)
        if (match := _WORD.search(line))
    ]
    assert not lines, "\n".join(lines)
