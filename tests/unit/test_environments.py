"""The environments that `make setup` and `make up` install, and the lock file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import environment, up
from deploy.services import ALL_SERVICES, ROOT
from services.common.local.checks import embedded_folder

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def lock() -> dict[str, Any]:
    return tomllib.loads((ROOT / "uv.lock").read_text())


@pytest.mark.parametrize("version", [(3, 6), (3, 10), (3, 14)])
def test_a_python_without_a_lock_is_refused_with_a_hint(version: tuple[int, int]) -> None:
    code = (
        f"import runpy, sys; sys.version_info = {(*version, 1)};"
        "runpy.run_path('deploy/environment.py')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Python {version[0]}.{version[1]} cannot be used")
    assert "PYTHON=" in done.stderr


def test_every_locked_file_has_a_hash() -> None:
    for package in lock()["package"]:
        files = [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
        assert files or "editable" in package["source"], package["name"]
        assert all(file["hash"].startswith("sha256:") for file in files), package["name"]


def test_the_lock_names_the_public_index_only() -> None:
    assert {p["source"].get("registry") for p in lock()["package"]} == {
        None,
        "https://pypi.org/simple",
    }


def test_uv_is_pinned_with_its_hashes() -> None:
    pin, *hashes = environment.UV_PIN.read_text().replace("\\\n", "").split()
    assert re.fullmatch(r"uv==[\d.]+", pin)
    assert hashes
    assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes)


def test_every_backend_has_an_extra_that_is_installed() -> None:
    """`make setup` installs all extras but vLLM's, so a new backend needs no edit of a list."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert set(environment.VLLM_EXTRAS.values()) <= set(extras)
    assert {service.name for service in ALL_SERVICES} - {"router", "edge"} <= set(extras)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[set[str], bool]]:
    """Replaces `make`. Has uv's options for extras and groups, and whether torch is among them."""
    calls: list[tuple[set[str], bool]] = []

    def make(venv: Path, extras: list[str], cuda: bool, *, torch: bool) -> None:
        # Without --inexact, uv removes packages that were added by hand, such as a backend.
        always = {"--inexact", "--all-extras"}
        assert always <= {*extras}
        venv.mkdir(exist_ok=True)
        calls.append(({word for word in extras if word not in always}, torch))

    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "make", make)
    return calls


def test_the_parts_that_make_up_does_not_need_come_when_they_are_asked_for(
    made: list[tuple[set[str], bool]], tmp_path: Path
) -> None:
    extras = PYPROJECT["project"]["optional-dependencies"].keys() - environment.VLLM_EXTRAS.values()
    groups = PYPROJECT["dependency-groups"].keys() - {"deploy", "files"}
    assert environment.PARTS.keys() - extras <= groups
    environment.main("services")
    environment.main("services", "ray")
    environment.main("services", "torch", "certs")
    environment.main("services")  # such as after a change of uv.lock
    assert not (tmp_path / ".venv/.all").exists()
    environment.main("services", "all")
    environment.main("services")
    base = {f"--no-extra={extra}" for extra in environment.VLLM_EXTRAS.values()}
    base |= {"--group=deploy", "--group=files"}

    def options(out: set[str], added: set[str]) -> set[str]:
        return base | {f"--no-extra={name}" for name in out} | {f"--group={name}" for name in added}

    later = {"parquet", "solvers", "valkey"}
    assert [chosen for chosen, _ in made] == [
        options(later | {"torch", "ray"}, set()),
        options(later | {"torch"}, set()),
        *[options(later, {"certs"})] * 2,
        *[options(set(), groups)] * 2,
    ]
    assert [torch for _, torch in made] == [False, False, True, True, True, True]
    assert (tmp_path / ".venv/.all").exists()
    with pytest.raises(SystemExit, match="no part rat: choose from torch, ray"):
        environment.main("services", "rat")


def test_make_up_installs_what_a_model_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    added: list[set[str]] = []
    monkeypatch.setattr(up.environment, "add_parts", lambda parts: added.append(set(parts)))
    monkeypatch.setattr(up.environment, "installed_parts", lambda venv: {"ray"})
    monkeypatch.setattr(up.environment, "has_gpu", lambda: False)
    monkeypatch.setattr(up, "ROOT", tmp_path)
    monkeypatch.setattr(up.sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setenv("ARENA_CONFIG_DIR", str(tmp_path))
    hf = next(service for service in ALL_SERVICES if service.name == "hf")

    def install(**entry: object) -> None:
        models = [{"name": "hf_a", "model_path": str(tmp_path / "a"), **entry}]
        settings = {"listen": "127.0.0.1:1", "device": "cpu", "models": models}
        (tmp_path / "hf_models.yaml").write_text(yaml.safe_dump(settings))
        up._install_parts([hf])

    install()  # its files are not on this machine
    install(model_path=str(embedded_folder()), preload=True)
    assert added == []
    install(preload=True)
    install(model_path=str(embedded_folder()), engine="transformers", preload=True)
    assert added == [{"torch"}] * 2
    [line, _] = capsys.readouterr().out.splitlines()
    assert line == "installing torch, about 900 MB, once: hf_a, a model of hf, needs it"
    monkeypatch.setattr(up.sys, "prefix", "/usr")  # somebody else's environment
    install(preload=True)
    assert len(added) == 2


def test_a_machine_without_a_gpu_gets_no_cuda_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []

    def run(command: list[object], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append([str(word) for word in command])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(environment, "install_uv", lambda: None)
    monkeypatch.setattr(environment, "pip_settings", lambda: [("find-links", "/wheels")])
    monkeypatch.setattr(environment.platform, "system", lambda: "Linux")
    monkeypatch.setattr(environment.subprocess, "run", run)
    environment.make(tmp_path, ["--extra=hf"], cuda=False)
    sync, install = commands
    skipped = {word.partition("=")[2] for word in sync if word.startswith("--no-install-package")}
    assert {"torch", "triton", "nvidia-cublas", "nvidia-nccl-cu13", "cuda-toolkit"} <= skipped
    assert "transformers" not in skipped
    assert install[-3:] == ["--find-links", "/wheels", "torch==2.13.0+cpu"]

    commands.clear()
    environment.make(tmp_path, ["--extra=hf"], cuda=True)
    assert len(commands) == 1
    assert "--no-install-package" not in " ".join(commands[0])


def test_uv_looks_where_pip_is_configured_to_look(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """uv reads neither the files nor the variables of pip: certificates, links and indexes."""
    (tmp_path / "pip.conf").write_text("[global]\nextra-index-url = file:///a file:///b\n")
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_CERT", "/of/pip.pem")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    # The environment of uv has pip; the one that uv makes has none.
    made_by = Path(sys.prefix).resolve().with_name(".venv-uv")
    monkeypatch.setattr(environment, "UV", made_by / "bin" / "uv")
    assert ["--find-links", "/wheels"] in environment.pip_sources()
    assert ["--index", "file:///a"] in environment.pip_sources()
    assert ["--index", "file:///b"] in environment.pip_sources()
    assert environment.uv_environ()["SSL_CERT_FILE"] == "/of/pip.pem"
    monkeypatch.setenv("SSL_CERT_FILE", "/of/the/user.pem")
    assert environment.uv_environ()["SSL_CERT_FILE"] == "/of/the/user.pem"


def test_a_failed_installation_says_where_packages_come_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, ["pip", "install"])

    monkeypatch.setattr(environment, "make", fail)
    with pytest.raises(SystemExit, match=r"(?s)^failed: pip install\n.*check the network"):
        environment.main("services")
