"""A backend of an installed package is a service of `make up`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.services import ROOT
from services.common.config import ConfigError
from services.common.offered import list_offered, load_offered

#: What `make up` knows of the service.
SHOW = """
from deploy.services import SERVICES, find_service
service = find_service("parrot")
assert service in SERVICES
print(service.module, service.config, service.address, service.has_engines)
print(list(service.check_config()))
"""


def offer(folder: Path, package: str, value: str, name: str = "parrot") -> None:
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[arena_llm.backends]\n{name} = {value}\n")


def test_make_up_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, "talk", "examples.parrot:ParrotBackend")
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "parrot_models.yaml").write_text((ROOT / "examples/parrot.yaml").read_text())
    monkeypatch.setenv("ARENA_CONFIG_DIR", str(configs))
    paths = [str(tmp_path), *sys.path]
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {paths}\n{SHOW}"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert shown.stdout.splitlines()[:1] == [
        "examples.parrot parrot_models.yaml 127.0.0.1:50070 True"
    ], shown.stderr


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("no_such_module:Parrot", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("os:getcwd", "is not a subclass of services.common.backend.BaseLLMBackend"),
        ("services.common.backend:BaseLLMBackend", "lacks generate_response"),
    ],
)
def test_one_that_is_wrong_is_named(
    value: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path, "talk", value)
    monkeypatch.syspath_prepend(tmp_path)
    (point,) = [point for point in list_offered() if point.name == "parrot"]
    with pytest.raises(ConfigError) as caught:
        load_offered(point)
    assert "backend" in str(caught.value)
    assert says in str(caught.value)


def test_both_names_are_the_same_and_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path, "talk", "examples.parrot:ParrotBackend", "macaw")
    monkeypatch.syspath_prepend(tmp_path)
    (point,) = [point for point in list_offered() if point.name == "macaw"]
    with pytest.raises(ConfigError, match=r"macaw \(examples.*has the name 'parrot'"):
        load_offered(point)
    offer(tmp_path, "chat", "os:getcwd", "macaw")
    with pytest.raises(ConfigError, match=r"macaw is offered twice, by examples.* and os:getcwd"):
        load_offered(point)
