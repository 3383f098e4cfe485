"""`make doctor` names each problem in one line, with its fix."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from deploy import doctor
from deploy.services import ROOT
from deploy.supervisor import Supervisor
from tests.support.ports import free_ports

Memory = namedtuple("Memory", "available")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """A healthy machine with an installation of its own, whose ports are free."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.complete").touch()
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr("sys.prefix", str(tmp_path / ".venv"))
    monkeypatch.setenv("ARENA_CONFIG_DIR", str(tmp_path / "configs"))
    names = ("ROUTER", "OPENROUTER", "LITELLM", "HF")
    for name, port in zip(names, free_ports(len(names)), strict=True):
        monkeypatch.setenv(f"ARENA_{name}_PORT", str(port))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(10**11))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**12))
    return Supervisor(tmp_path / "run")


def problems(machine: Supervisor, capsys: Any) -> list[str]:
    status = doctor.doctor(machine)
    lines: list[str] = capsys.readouterr().out.splitlines()
    assert status == (0 if lines == ["this machine and this installation are fine"] else 1)
    return lines


def test_a_healthy_machine(machine: Supervisor, capsys: Any) -> None:
    assert problems(machine, capsys) == ["this machine and this installation are fine"]


def test_make_works_with_safe_paths(tmp_path: Path) -> None:
    """PYTHONSAFEPATH keeps Python from importing from the folder where it is started."""
    environ = {**os.environ, "PYTHONSAFEPATH": "1", "ARENA_RUN_DIR": str(tmp_path)}
    environ.pop("PYTHONPATH", None)
    done = subprocess.run(["make", "status"], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "router" in done.stdout


def test_each_problem_is_one_line_with_its_fix(
    machine: Supervisor, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = doctor.ROOT
    (root / ".venv/.complete").unlink()
    (root / ".env").write_text("A=1\nOPENAI_API_KEY='open\n")
    (root / "configs/router.yaml").write_text("listen: 127.0.0.1:1\nrouts: {}\n")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(10**9))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**8))
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        monkeypatch.setenv("ARENA_HF_PORT", str(port))
        found = problems(machine, capsys)
    for beginning, fix in (
        (".venv is missing or incomplete", "make setup"),
        (f"{root} has 0.1 GB of disk left", "free 2 GB"),
        ("1.0 GB of memory are available", "memory_budget_gb"),
        (f"{root}/.env: line 2:", "a quote is open"),
        (f"{root}/configs/router.yaml: routs: unknown key", "routes"),
        (f"hf cannot listen on 127.0.0.1:{port}", "set ARENA_HF_PORT="),
    ):
        assert any(line.startswith(beginning) and fix in line for line in found), beginning
