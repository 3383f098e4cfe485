"""A configuration that cannot be used says which file, which key, and why."""

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
    load_dotenv,
)


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


LISTEN = "listen: 127.0.0.1:0\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["mapping"]),
        ("- a\n", ["mapping"]),
        ("listen: [\n", ["not valid YAML"]),
        ("seconds: 1\n", ["listen", "required"]),
        (LISTEN + "colour: red\n", ["colour", "not permitted"]),
        (LISTEN + "second: 1\n", ["second: ", "not permitted; near it: seconds"]),
        (LISTEN + "models: [{name: hf_a, descripton: a}]\n", ["near it: description"]),
        (LISTEN + LISTEN, ["listen", "twice"]),
        (LISTEN + "seconds: soon\n", ["seconds", "number"]),
        ("listen: here\n", ["listen", "host:port"]),
        ("listen: 127.0.0.1:70000\n", ["listen", "65535"]),
        ("listen: http://localhost:50051\n", ["listen", "host:port"]),
        ("listen: 127.0.0.1:50051/x\n", ["listen", "host:port"]),
        (LISTEN + "models: [gpt2]\n", ["gpt2", "hf_"]),
        (LISTEN + "models: [hf_]\n", ["hf_"]),
        (LISTEN + "models: [hf_a, hf_a]\n", ["hf_a", "twice"]),
        (LISTEN + "models: [{name: hf_a, colour: red}]\n", ["models[0].colour", "not permitted"]),
        (LISTEN + "models: hf_a\n", ["models", "list"]),
        ("listen: 127.0.0.1:${ARENA_TEST_UNSET}\n", ["ARENA_TEST_UNSET", "not set"]),
    ],
)
def test_refused(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    for word in ("hf_models.yaml", *said):
        assert word in str(caught.value)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
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


def test_the_folder_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARENA_CONFIG_DIR", raising=False)
    assert config_path("router.yaml") == Path("configs/router.yaml")
    monkeypatch.setenv("ARENA_CONFIG_DIR", "/elsewhere")
    assert config_path("router.yaml") == Path("/elsewhere/router.yaml")


def test_dotenv_gives_a_service_its_own_variables_only(
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
