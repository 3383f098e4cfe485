"""An error about a configuration names the file, the key and the reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import pytest
from pydantic import Field, model_validator

from services.common.config import (
    ConfigError,
    ModelEntries,
    ModelEntry,
    ServiceConfig,
    check_names,
    config_path,
    load_config,
)
from services.common.environment import drop_other_keys, load_dotenv, read_env_file


class Config(ServiceConfig):
    models: ModelEntries[ModelEntry] = Field(default_factory=list)
    seconds: float = 1.0

    @model_validator(mode="after")
    def _named(self) -> Self:
        check_names(self.models, "hf_")
        return self


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "hf_models.yaml"
    path.write_text(text)
    return load_config(path, Config)


NOT_ADDRESSES = [
    "",
    "localhost",
    "localhost:",
    ":50051",
    "localhost:port",
    "localhost:-1",
    "localhost:99999",
    "localhost:65536",
    "localhost:115587",  # 50051 where a port wraps at 65536
    "localhost:\u0665\u0660",  # Arabic digits
    "http://localhost:50051",
    "https://localhost",
    "grpc://localhost:50051",
    "dns:///localhost:50051",
    "ipv4:127.0.0.1:50051",
    "unix-abstract:socket",
    "localhost:50051/",
    "user@localhost:50051",
    "localhost: 50051",
    " localhost:50051",
    "localhost:50051,localhost:50052",
    "256.0.0.1:50051",
    "a..b:50051",
    ".:50051",
    "::1:50051",
    "[::1]",
    "[:::]:50051",
    "[127.0.0.1]:50051",
]

LISTEN = "listen: 127.0.0.1:0\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["mapping"]),
        ("- a\n", ["mapping"]),
        ("listen: [\n", ["not valid YAML"]),
        ("seconds: 1\n", ["listen", "required"]),
        (LISTEN + "colour: red\n", ["colour", "unknown key"]),
        (LISTEN + "second: 1\n", ["second: ", "unknown key; did you mean seconds?"]),
        (LISTEN + "models: [{name: hf_a, descripton: a}]\n", ["did you mean description?"]),
        (LISTEN + LISTEN, ["listen", "twice"]),
        (LISTEN + "seconds: soon\n", ["seconds", "number"]),
        (LISTEN + "seconds: .nan\n", ["seconds", "finite"]),
        (LISTEN + "seconds: 1e999\n", ["seconds", "number"]),
        ("listen: here\n", ["listen", "host:port"]),
        (LISTEN + "models: [gpt2]\n", ["gpt2", "hf_"]),
        (LISTEN + "models: [hf_]\n", ["hf_"]),
        (LISTEN + "models: [hf_a, hf_a]\n", ["hf_a", "twice"]),
        (LISTEN + "models: [{name: hf_a, colour: red}]\n", ["models[0].colour", "unknown key"]),
        (LISTEN + "models: hf_a\n", ["models", "list"]),
        ("listen: 127.0.0.1:${ARENA_TEST_UNSET}\n", ["ARENA_TEST_UNSET", "not set"]),
    ],
)
def test_refused(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    for word in ("hf_models.yaml", *said):
        assert word in str(caught.value)
    assert "Value error" not in str(caught.value)


def test_an_error_of_the_file_as_a_whole_begins_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hf_models\.yaml: listen: other machines can reach"):
        load(tmp_path, "listen: 0.0.0.0:0\n")


@pytest.mark.parametrize("address", NOT_ADDRESSES)
def test_not_an_address(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"listen: '{address}'\n")
    for word in ("hf_models.yaml: listen: ", address, "127.0.0.1:50051", "0 to 65535"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        *("localhost:1", "hf.models.svc:50051", "a_b.:65535", "127.0.0.1:0", "[::1]:1"),
        "unix:/tmp/socket",
    ],
)
def test_an_address(tmp_path: Path, address: str) -> None:
    assert load(tmp_path, f"listen: '{address}'\ninsecure: true\n").listen == address


def test_one_error_lists_every_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "listen: here\nseconds: soon\n")
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "none.yaml", Config)


def test_names_and_mappings_are_entries(tmp_path: Path) -> None:
    config = load(tmp_path, LISTEN + "models:\n  - hf_a\n  - {name: hf_b, description: b}\n")
    assert [m.name for m in config.models] == ["hf_a", "hf_b"]
    assert config.models[1].description == "b"
    assert load(tmp_path, LISTEN + "models:\n").models == []


@pytest.mark.parametrize(("value", "port"), [(None, "5"), ("", "5"), ("7", "7")])
def test_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, port: str
) -> None:
    if value is not None:
        monkeypatch.setenv("ARENA_TEST_PORT", value)
    config = load(tmp_path, "listen: 127.0.0.1:${ARENA_TEST_PORT:-5}\n")
    assert config.listen == f"127.0.0.1:{port}"


def test_the_folder_of_configurations_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARENA_CONFIG_DIR", raising=False)
    assert config_path("router.yaml") == Path("configs/router.yaml")
    monkeypatch.setenv("ARENA_CONFIG_DIR", "/elsewhere")
    assert config_path("router.yaml") == Path("/elsewhere/router.yaml")


def test_a_service_reads_only_its_own_variables_from_dotenv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("MINE_KEY=from-file\nMINE_SET=from-file\nOTHER_KEY=secret\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINE_SET", "from-environment")
    monkeypatch.setenv("MINE_KEY", "x")  # so that it is removed after the test
    monkeypatch.delenv("MINE_KEY")
    load_dotenv(["MINE_*"])
    assert os.environ["MINE_KEY"] == "from-file"
    assert os.environ["MINE_SET"] == "from-environment"
    assert "OTHER_KEY" not in os.environ


def test_a_service_unsets_the_keys_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MINE_API_KEY", "MINE_NOT_API_KEY", "OTHER_API_KEY", "OTHER"):
        monkeypatch.setenv(name, "planted")
    drop_other_keys(["MINE_*", "!MINE_NOT_*"])
    assert {"MINE_API_KEY", "OTHER"} <= set(os.environ)
    assert not {"MINE_NOT_API_KEY", "OTHER_API_KEY"} & set(os.environ)


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a .env file; MINE_KEY is unset before and after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINE_KEY", "x")
    monkeypatch.delenv("MINE_KEY")
    return tmp_path / ".env"


BROKEN = {
    "Latin-1": ("# für alle\nMINE_KEY=1\n".encode("latin-1"), "line 1: is not UTF-8 text"),
    "cut": ("A=1\n\nMINE_KEY=1\n#ü".encode()[:-1], "line 4: is not UTF-8 text"),
    "UTF-16": ("MINE_KEY=1\n".encode("utf-16"), "is UTF-16"),
    "UTF-16, big-endian": ("\ufeffMINE_KEY=1\n".encode("utf-16-be"), "is UTF-16"),
    "a NUL byte": (b"A=1\nMINE_KEY=1\nB=a\0b\n", "line 3: has a NUL byte"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_dotenv_that_is_not_text(env_file: Path, content: bytes, reason: str) -> None:
    env_file.write_bytes(content)
    problem = f".env: {reason}: save the file as UTF-8"
    with pytest.raises(ConfigError) as caught:
        load_dotenv(["MINE_*"])
    assert str(caught.value) == problem
    assert "MINE_KEY" not in os.environ
    said: list[str] = []
    load_dotenv(["MINE_*"], said.append)
    assert (said, os.environ["MINE_KEY"]) == ([problem], "1")


def test_a_dotenv_of_utf_16_without_a_mark(env_file: Path) -> None:
    env_file.write_bytes("MINE_KEY=1\n".encode("utf-16-le"))
    with pytest.raises(ConfigError, match=r"^\.env: line 1: has a NUL byte: save"):
        load_dotenv(["MINE_*"])


@pytest.mark.parametrize("content", ["MINE_KEY=für".encode("latin-1"), b"MINE_KEY=a\0b"])
def test_a_needed_variable_that_cannot_be_read(env_file: Path, content: bytes) -> None:
    env_file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^\.env: line 1: .*; MINE_KEY is needed$"):
        load_dotenv(["MINE_*"], lambda _: None)
    load_dotenv(["MINE_*"], lambda _: None, needed=["MINE_OTHER"])
    assert "MINE_KEY" not in os.environ
    os.environ["MINE_KEY"] = "from the environment"
    load_dotenv(["MINE_*"], lambda _: None)


UNPARSED = {
    "an open quote": ('A=1\n\nMINE_OTHER="sk-secret\nMINE_KEY=1\n', 3, ["MINE_OTHER"]),
    "exported": ('export MINE_OTHER="sk-secret\nMINE_KEY=1\n', 1, ["MINE_OTHER"]),
    "a blank in the name": ("MINE OTHER=3\nMINE_KEY=1\n", 1, []),
    "no name": ("MINE_KEY=1\n\n =sk-secret\n", 3, []),
}


@pytest.mark.parametrize(("content", "line", "lost"), UNPARSED.values(), ids=UNPARSED)
def test_a_line_of_a_dotenv_that_is_not_a_variable(
    env_file: Path,
    content: str,
    line: int,
    lost: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    env_file.write_text(content)
    problem = f".env: line {line}: is not NAME=value, or a quote is open"
    with pytest.raises(ConfigError) as caught:
        load_dotenv(["MINE_*"])
    assert str(caught.value) == problem
    said: list[str] = []
    load_dotenv(["MINE_*"], said.append, needed=["MINE_KEY"])
    assert (said, os.environ["MINE_KEY"]) == ([problem], "1")
    for name in lost:
        with pytest.raises(ConfigError, match=f"; {name} is needed$"):
            load_dotenv(["MINE_*"], said.append)
    assert not caplog.records


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("'a${HOME}b'", "a${HOME}b"),
        ("'a$HOME'", "a$HOME"),
        ('"a${MINE_OTHER}"', "asecret"),
        ("a${MINE_OTHER}", "asecret"),
    ],
)
def test_single_quotes_keep_a_dotenvs_value(env_file: Path, value: str, read: str) -> None:
    env_file.write_text(f"MINE_OTHER='secret'\nMINE_KEY={value}\n")
    assert read_env_file(env_file)[0]["MINE_KEY"] == read


def test_a_dotenv_with_a_byte_order_mark(env_file: Path) -> None:
    env_file.write_bytes("MINE_KEY=für\n".encode("utf-8-sig"))
    load_dotenv(["MINE_*"])
    assert os.environ["MINE_KEY"] == "für"


def test_a_dotenv_that_is_a_folder(env_file: Path) -> None:
    env_file.mkdir()
    with pytest.raises(ConfigError, match=r"^\.env: cannot be read: Is a directory$"):
        load_dotenv(["MINE_*"])
