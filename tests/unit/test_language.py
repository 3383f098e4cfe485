"""Words that made our texts hard to read stay out of them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: The word or phrase, and what to write instead.
WORDS = {
    "told": "says, reported, or the noun",
    "anew": "again",
    "mend": "fix",
    "mended": "fixed",
    "mending": "fixing",
    "whoever": "the noun, such as the caller",
    "whatever": "the noun, or any",
    "asked for": "requested",
    "as it is": "unchanged",
    "as they are": "unchanged",
    "at once": "immediately, or at the same time",
    "gone on with": "continued",
    "goes on": "continues",
    "go on with": "continue",
    "in vain": "without success",
}
#: A phrase may be broken over two lines of a comment.
PHRASES = [word.replace(" ", r"[\s#*]+") for word in WORDS]
PATTERN = re.compile(rf"\b({'|'.join(PHRASES)})\b", re.IGNORECASE)

#: Text of this kind is written by us, by hand.
WRITTEN = (".py", ".pyi", ".md", ".yaml", ".yml", ".toml", ".proto", ".sql", ".j2", ".js", ".css")
WRITTEN_NAMES = {"Makefile", ".env.example", "run"}


def written_files() -> list[Path]:
    """Every file of the repository that a person wrote, but for this one."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [
        ROOT / name
        for name in listed
        if (name.endswith(WRITTEN) or Path(name).name in WRITTEN_NAMES)
        and not name.startswith("client/src/arena_llm/v1/")  # generated
        and ROOT / name != Path(__file__)
        and (ROOT / name).exists()
    ]


def test_no_text_has_a_word_that_is_hard_to_read() -> None:
    files = written_files()
    assert len(files) > 200
    problems = []
    for path in files:
        text = path.read_text()
        for match in PATTERN.finditer(text):
            word = " ".join(re.findall(r"\w+", match[0].lower()))
            line = text.count("\n", 0, match.start()) + 1
            problems.append(f"{path.relative_to(ROOT)}:{line}: not {word!r}; write {WORDS[word]}")
    assert not problems, "\n".join(problems)
