"""Reads a YAML file that holds a mapping, or reports in one line why it cannot be used.

It also refuses content that would harm its reader: duplicate keys, an anchor that contains
itself, and aliases that multiply the content without limit. This module needs PyYAML, which the
client does not require: import it where a file is read.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import yaml

#: The largest file in bytes. PyYAML needs up to a second for this size.
_MAX_BYTES = 2**20

#: The deepest nesting of lists and mappings. It keeps recursive readers from overflowing.
_MAX_DEPTH = 100

#: The largest number of values. An alias counts as all values that it stands for, and a
#: text as one value for each _CHARACTERS_PER_VALUE characters.
_MAX_SIZE = 100_000
_CHARACTERS_PER_VALUE = 100

#: The largest integer. Python refuses to print integers with many digits.
_MAX_BITS = 64


class YamlError(Exception):
    """FILE: line N: what is wrong."""


def read_mapping(path: Path) -> dict[Any, Any]:
    """Return the mapping in a YAML file. Raises YamlError."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = getattr(error, "strerror", None) or error
        raise YamlError(f"{path}: cannot be read: {reason}") from error
    if len(content) > _MAX_BYTES:
        raise YamlError(f"{path}: cannot be read: it has more than {_MAX_BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise YamlError(f"{path}: line {line}: is not valid YAML: it is not UTF-8 text") from error
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reason = f"character #x{ord(text[error.position]):04x} is not allowed"
        raise YamlError(f"{path}: line {line}: is not valid YAML: {reason}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        reason = ": ".join(filter(None, (error.context, error.problem)))
        raise YamlError(f"{path}: {where}is not valid YAML: {reason}") from error
    if not isinstance(value, dict):
        raise YamlError(f"{path}: must be a mapping of keys to values")
    return value


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        #: The lists and mappings that enclose the current node.
        self._around: list[yaml.Node] = []
        self._sizes: dict[int, int] = {}
        self._count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        is_alias = self.check_event(yaml.AliasEvent)
        if parent is not None:
            self._around.append(parent)
        if len(self._around) > _MAX_DEPTH:
            raise _error(event, f"more than {_MAX_DEPTH} levels of lists and mappings")
        self._count += 1
        if self._count > _MAX_SIZE:
            raise _too_large(event)
        node = super().compose_node(parent, index)
        if is_alias and any(node is outer for outer in self._around):
            raise _error(event, f"the anchor {event.anchor!r} contains itself")
        if not is_alias and node is not None:
            self._sizes[id(node)] = self._size(node)
            if self._sizes[id(node)] > _MAX_SIZE:
                raise _too_large(event)
        if parent is not None:
            self._around.pop()
        return node

    def _size(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        else:
            return 1 + len(node.value) // _CHARACTERS_PER_VALUE
        return 1 + sum(self._sizes[id(part)] for part in parts)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        # PyYAML does not catch what Python raises for a bad value: ValueError for 2026-02-30,
        # KeyError for `!!bool x`, IndexError for an empty `!!int`, and more.
        except Exception as error:
            raise _error(node, f"{_shown(node)} is not {_kind(node)}") from error
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise _error(node, f"an integer has more than {_MAX_BITS} bits: {_shown(node)}")
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # The keys that `<<` adds are not checked: the mapping's own keys may replace them.
        seen = set()
        # A scalar with a tag (`!!map x`) is possible too; super() refuses it.
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        for key_node, _ in pairs:
            merge = key_node.tag == "tag:yaml.org,2002:merge"
            key = "<<" if merge else self.construct_object(key_node, deep=True)
            try:
                if key in seen:
                    raise _error(key_node, f"key {_shown(key_node)} appears twice")
                seen.add(key)
            except TypeError as error:
                raise _error(key_node, "a list or a mapping cannot be a key") from error
        return super().construct_mapping(node, deep)


def _too_large(place: yaml.Event) -> yaml.MarkedYAMLError:
    return _error(place, f"more than {_MAX_SIZE} values, with those that aliases stand for")


def _error(place: yaml.Node | yaml.Event, problem: str) -> yaml.MarkedYAMLError:
    mark: Any = place.start_mark
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def _shown(node: yaml.Node) -> str:
    return reprlib.repr(node.value) if isinstance(node, yaml.ScalarNode) else "this"


def _kind(node: yaml.Node) -> str:
    """Return the type that a value should have, such as "a timestamp"."""
    kind = node.tag.rpartition(":")[2]
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
