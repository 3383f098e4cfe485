"""YAML files: content that harms a program is refused, with file, line and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from arena.experiment.load import ExperimentError, load_experiment
from arena_llm import yaml_file
from arena_llm.yaml_file import YamlError, read_mapping
from services.common.config import ConfigError, ServiceConfig, load_config

#: A line of each: [*a0, *a0, ...], nine times as much as the line before.
BOMB = "\n".join(
    ["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]
)
MERGED = "\n".join(
    [
        "a0: &a0 {x: 1}",
        *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 9)),
    ]
)

REFUSED = {
    "impossible date": (b"a: 1\nb: 2026-02-30", "line 2: ", "'2026-02-30' is not a timestamp"),
    "impossible month": (b"a: 2026-13-01", "line 1: ", "is not a timestamp"),
    "impossible hour": (b"a: 2026-01-01T25:00:00Z", "line 1: ", "is not a timestamp"),
    "impossible zone": (b"a: 2026-01-01T00:00:00+99:00", "line 1: ", "is not a timestamp"),
    "date as a key": (b"2026-02-30: 1", "line 1: ", "is not a timestamp"),
    "tagged date": (b"a: !!timestamp soon", "line 1: ", "'soon' is not a timestamp"),
    "tagged bool": (b"a: !!bool perhaps", "line 1: ", "'perhaps' is not a bool"),
    "tagged int": (b"a: !!int ''", "line 1: ", "'' is not an int"),
    "tagged float": (b"a: !!float much", "line 1: ", "'much' is not a float"),
    "tagged mapping": (b"a: !!map x", "line 1: ", "expected a mapping node"),
    "unknown tag": (b"a: !!python/object:os.system {}", "line 1: ", "could not determine"),
    "own tag": (b"a: !x 1", "line 1: ", "could not determine"),
    "huge integer": (b"a:\n  - " + b"9" * 5000, "line 2: ", "is not an int"),
    "large integer": (b"a: " + b"9" * 400, "line 1: ", "more than 64 bits"),
    "huge hexadecimal": (b"a: 0x" + b"f" * 9000, "line 1: ", "more than 64 bits"),
    "huge sexagesimal": (b"a: 1" + b":1" * 5000, "line 1: ", "more than 64 bits"),
    "list that contains itself": (b"x: 1\na: &a [*a]", "line 2: ", "'a' contains itself"),
    "mapping that contains itself": (b"&a {a: {b: [*a]}}", "line 1: ", "'a' contains itself"),
    "key that contains itself": (b"&a {? *a : 1}", "line 1: ", "'a' contains itself"),
    "merge of itself": (b"a: &a {<<: *a}", "line 1: ", "'a' contains itself"),
    "unknown alias": (b"a: *b", "line 1: ", "undefined alias"),
    "bomb of aliases": (BOMB.encode(), "line 4: ", "more than 1000 values"),
    "bomb of merges": (MERGED.encode(), "line 4: ", "more than 1000 values"),
    "bomb of text": (
        b"a: &a " + b"x" * 10_000 + b"\nb: [" + b"*a, " * 20 + b"]",
        "line 2: ",
        "more than 1000 values",
    ),
    "many aliases": (b"a: &a x\nb: [" + b"*a," * 1200, "line 2: ", "more than 1000 values"),
    "many keys": (b"{" + b"a," * 1200, "line 1: ", "more than 1000 values"),
    "a long file": (b"a: " + b"x" * 2**20, "", "more than 1,048,576 bytes"),
    "deep lists": (b"a: " + b"[" * 500, "line 1: ", "more than 100 levels"),
    "deep mappings": (b"{a: " * 500, "line 1: ", "more than 100 levels"),
    "deep blocks": (b"- " * 500, "line 1: ", "more than 100 levels"),
    "Latin-1": ("a: 1\nb: für".encode("latin-1"), "line 2: ", "not UTF-8 text"),
    "UTF-16": ("a: 1".encode("utf-16"), "line 1: ", "not UTF-8 text"),
    "a NUL byte": (b"a: 1\nb: x\0y", "line 2: ", "#x0000 is not allowed"),
    "an escape": (b"a: 1\nb: \x1b[31m", "line 2: ", "#x001b is not allowed"),
    "a tab": (b"a:\n\tb: 1", "line 2: ", "cannot start any token"),
    "a list as a key": (b"a: 1\n? [x]\n: 1", "line 2: ", "cannot be a key"),
    "a mapping as a key": (b"{{x: 1}: 1}", "line 1: ", "cannot be a key"),
    "a key twice": (b"a: 1\nb: 2\na: 3", "line 3: ", "'a' appears twice"),
    "a key twice below": (b"a: {b: 1, b: 2}", "line 1: ", "'b' appears twice"),
    "a key in two spellings": (b"yes: 1\ntrue: 2", "line 2: ", "'true' appears twice"),
    "two documents": (b"a: 1\n---\nb: 1", "line 2: ", "single document"),
    "open list": (b"a: [", "line 1: ", "expected the node content"),
    "open text": (b"a: 'x", "line 1: ", "unexpected end of stream"),
    "bad indent": (b"a: 1\n b: 2", "line 2: ", "not allowed here"),
    "empty": (b"", "", "must be a mapping of keys to values"),
    "a list": (b"- a", "", "must be a mapping of keys to values"),
    "a word": (b"a", "", "must be a mapping of keys to values"),
}


@pytest.mark.parametrize(("content", "line", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, line: str, reason: str
) -> None:
    monkeypatch.setattr(yaml_file, "_MAX_SIZE", 1000)
    file = tmp_path / "file.yaml"
    file.write_bytes(content)
    with pytest.raises(YamlError) as caught:
        read_mapping(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: {line}")
    assert reason in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400 + len(str(file))


def test_all_readers_report_the_same(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("a: 1\na: 2")
    message = f"{file}: line 2: is not valid YAML: key 'a' appears twice"
    with pytest.raises(ConfigError) as by_service:
        load_config(file, ServiceConfig)
    with pytest.raises(ExperimentError) as by_arena:
        load_experiment(file)
    assert str(by_service.value) == str(by_arena.value) == message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(YamlError, match=f"^{path}: cannot be read: {why}"):
            read_mapping(path)
    with pytest.raises(YamlError, match=r"^/dev/zero: cannot be read: it has more than"):
        read_mapping(Path("/dev/zero"))
    with pytest.raises(YamlError, match="cannot be read: embedded null byte"):
        read_mapping(tmp_path / "a\0b")


def test_read(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(
        "\ufeffbase: &base {type: llm, model: hf_a, at: 2026-02-28}\n"
        "x: {<<: *base}\n"
        "y: {<<: [*base, {more: 1}], model: hf_b}\n"
        f"numbers: [-0x10, {2**64 - 1}, 1e400, .nan]\n",
        "utf-8",
    )
    read = read_mapping(file)
    assert read["x"] == read["base"]
    assert (read["y"]["model"], read["y"]["type"], read["y"]["more"]) == ("hf_b", "llm", 1)
    assert read["numbers"][:2] == [-16, 2**64 - 1]


def test_a_long_list_of_problems_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("\n".join(f"k{i}: 1" for i in range(1000)))
    with pytest.raises(ConfigError) as caught:
        load_config(file, ServiceConfig)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == f"{file}: and 981 more"


@pytest.mark.parametrize(
    "content", ['"\\e[2J\\n\\x9b": 1', f"? {'k' * 100_000}\n: 1", f"listen: {'x' * 100_000}"]
)
def test_a_problem_is_one_short_line_of_plain_text(tmp_path: Path, content: str) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file, ServiceConfig)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 2
    for line in lines:
        assert line.startswith(f"{file}: ")
        assert len(line) < 1_000
        assert line.isprintable()
