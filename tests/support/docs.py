"""The code blocks of README.md, docs/ and CONTRIBUTING.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.services import ROOT

#: In the order in which their commands run.
DOCUMENTS = [
    path.relative_to(ROOT)
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
    if path.exists()
]

_BLOCK = re.compile(
    r"^#+ (?P<heading>[^\n]*)$|^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A code block, and the heading above it."""

    document: Path
    heading: str
    language: str
    text: str


def blocks(*languages: str) -> Iterator[Block]:
    """Every code block in one of these languages, in order."""
    for document in DOCUMENTS:
        heading = ""
        for match in _BLOCK.finditer((ROOT / document).read_text()):
            heading = match["heading"] or heading
            if match["language"] in languages:
                yield Block(document, heading, match["language"], match["text"])


def shell_lines(block: Block) -> list[str]:
    """The commands of a shell block, without comments; a backslash continues a line."""
    lines = re.sub(r"\\\n\s*", " ", block.text).splitlines()
    return [line for line in (re.sub(r"\s+#.*|^#.*", "", line).strip() for line in lines) if line]
