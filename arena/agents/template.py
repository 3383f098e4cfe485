"""Templates of prompts: Jinja files whose blocks are the parts of a prompt."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

_FOLDER = Path(__file__).parent / "templates"

#: The template that every other one falls back to.
STANDARD = "standard"


class PromptTemplate:
    """One file. Blocks that it lacks are those of the standard template."""

    def __init__(self, template: Template, base: PromptTemplate | None) -> None:
        self._template = template
        self._base = base

    @property
    def blocks(self) -> Iterator[str]:
        """The names of its own blocks."""
        return iter(self._template.blocks)

    def render(self, block: str, **values: Any) -> str:
        """Return the text of a block. Raises TemplateError, for example for an unknown value."""
        if block not in self._template.blocks and self._base is not None:
            return self._base.render(block, **values)
        context = self._template.new_context(values)
        return "".join(self._template.blocks[block](context)).strip("\n")


@lru_cache(maxsize=32)
def load_template(name: str) -> PromptTemplate:
    """Load a template by its name, or by the path of a file that ends in .j2.

    A template cannot run code or change values: it is rendered in Jinja's sandbox. Raises
    ValueError if there is none, or if it is not a template.
    """
    path = Path(name) if name.endswith(".j2") else _FOLDER / f"{name}.j2"
    if not path.is_file() or (path.parent == _FOLDER and "/" in name):
        own = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.j2")))
        raise ValueError(f"there is no template {name!r}: use a path that ends in .j2, or {own}")
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(path.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    base = None if name == STANDARD else load_template(STANDARD)
    try:
        template = PromptTemplate(environment.get_template(path.name), base)
    except (TemplateError, UnicodeDecodeError) as error:
        raise ValueError(f"template {name!r} cannot be read: {error}") from None
    if base is not None and (unknown := set(template.blocks) - set(base.blocks)):
        known = ", ".join(base.blocks)
        raise ValueError(f"template {name!r} has the block {min(unknown)!r}; blocks are {known}")
    return template
