"""`make doctor` names each problem in one line, with its fix."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from deploy import doctor
from deploy.certificates import make_certificates
from deploy.services import ROOT
from deploy.supervisor import Process, Supervisor, SystemState
from tests.support.ports import free_ports

Memory = namedtuple("Memory", "available")
LIST_NOTES = doctor.list_notes
TLS_FILES = (("certificate", "crt"), ("key", "key"))


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
    services = ("ROUTER", "GATEWAY", "OPENROUTER", "LITELLM", "HF")
    names = [*services, *(f"{service}_METRICS" for service in services)]
    for name, port in zip(names, free_ports(len(names)), strict=True):
        monkeypatch.setenv(f"ARENA_{name}_PORT", str(port))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(10**11))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**12))
    monkeypatch.setattr(doctor, "list_notes", lambda: ())  # which imports litellm
    return Supervisor(tmp_path / "run")


def problems(machine: Supervisor, capsys: Any) -> list[str]:
    status = doctor.doctor(machine)
    lines: list[str] = capsys.readouterr().out.splitlines()
    assert status == (0 if lines == ["this machine and this installation are fine"] else 1)
    return lines


def test_a_healthy_machine(machine: Supervisor, capsys: Any) -> None:
    assert problems(machine, capsys) == ["this machine and this installation are fine"]


def test_another_python_than_the_locked_ones_is_a_problem(
    machine: Supervisor, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.environment.NEWEST", (3, 10))
    (line,) = problems(machine, capsys)
    assert line.startswith(f".venv has Python 3.{sys.version_info.minor}: install one from 3.11 ")
    assert "make setup PYTHON=python3.10" in line


def test_what_is_missing_for_some_calls_is_a_note(
    machine: Supervisor, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENROUTER_API_KEY", "GROQ_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    models = {"openrouter": ["a/b", "a/c"], "litellm": ["openai/gpt-4o", "groq/openai/gpt-oss-20b"]}
    for service, names in models.items():
        listed = [f"{service}_{name}" for name in names]
        settings = {"listen": f"127.0.0.1:{free_ports(1)[0]}", "models": listed}
        (doctor.ROOT / f"configs/{service}_models.yaml").write_text(json.dumps(settings))
    monkeypatch.setattr(doctor, "VLLM", replace(doctor.VLLM, python=doctor.ROOT / "none"))
    monkeypatch.setattr(doctor, "list_notes", LIST_NOTES)
    monkeypatch.setattr("services.common.environment.DOTENV", doctor.ROOT / "none")
    about = "keys of listed models are not set (the number of models)"
    end = "put those that you have into .env"
    assert doctor.doctor(machine) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        f"note: litellm: {about}: GROQ_API_KEY (1): {end}",
        f"note: openrouter: {about}: OPENROUTER_API_KEY (2): {end}",
        "note: vllm has a route and no environment: make setup-vllm, then make up VLLM=1",
        "this machine and this installation are fine",
    ]


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


def test_secrets_and_keys_that_are_odd(
    machine: Supervisor, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = doctor.ROOT
    env = root / ".env"
    env.write_text("A=1\nA=2\nB\nX_API_KEY=\u201csk-secret\u201d\nGOOD_API_KEY='sk-1'\n")
    env.chmod(0o644)
    make_certificates(root / "certs", [])
    (root / "tokens.yaml").write_text("tokens: {}\n")
    (root / "tokens.yaml").chmod(0o640)
    monkeypatch.setenv("ARENA_TOKENS", str(root / "tokens.yaml"))
    tls = {name: str(root / "certs" / f"server.{end}") for name, end in TLS_FILES}
    with (root / "configs/router.yaml").open("a") as file:
        file.write(f"tls: {json.dumps(tls)}\n")
    with (root / "configs/gateway.yaml").open("a") as file:
        file.write(f"router_tls: {{ca: {root}/certs/ca.crt}}\n")
    expected = [
        f"{env} has keys, and other users can read it: chmod 600 {env}",
        f"{env}: A is set 2 times, and the last counts: keep one line",
        f"{env}: B has no value: write B=VALUE",
        f"{env}: X_API_KEY has a space or a character that no key has: copy the key again",
        f"router: {root}/tokens.yaml can be read by other users: chmod 600 {root}/tokens.yaml",
    ]
    assert problems(machine, capsys) == expected

    later = time.time() + 365 * 86_400
    monkeypatch.setattr(doctor, "time", SimpleNamespace(time=lambda: later))
    found = problems(machine, capsys)
    assert [line for line in found if line not in expected] == [
        next(line for line in found if "server.crt has ended (" in line)
    ]
    (root / "certs/server.key").write_text("none")
    assert any("certs` makes new ones" in line for line in problems(machine, capsys))
    (root / "certs/ca.crt").unlink()
    assert any("tls: to see whether" in line for line in problems(machine, capsys))


def test_a_certificate_that_callers_would_refuse(
    machine: Supervisor, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = doctor.ROOT
    make_certificates(root / "certs", [])
    make_certificates(root / "other", [])
    tls = {name: str(root / "certs" / f"server.{end}") for name, end in TLS_FILES}
    path = root / "configs/router.yaml"
    text = path.read_text() + f"tls: {json.dumps(tls)}\ntokens: {root}/tokens.yaml\n"
    text = text.replace("\ntokens: ${ARENA_TOKENS:-}", "")
    (root / "tokens.yaml").write_text("tokens: {}\n")
    (root / "tokens.yaml").chmod(0o600)
    path.write_text(text.replace("listen: ${ARENA_LISTEN_HOST:-127.0.0.1}", "listen: 127.0.0.2"))
    lines = problems(machine, capsys)
    door = root / "configs/gateway.yaml"
    assert any(
        line.startswith(f"{door}: router: the router listens on 127.0.0.2") for line in lines
    )
    text = door.read_text() + f"router_tls: {{ca: {root}/certs/ca.crt}}\n"
    door.write_text(text.replace("router: ${ARENA_ROUTER_HOST:-127.0.0.1}", "router: 127.0.0.2"))
    (line,) = problems(machine, capsys)
    assert "is not for 127.0.0.2" in line
    assert 'make certs HOSTS="127.0.0.2 ..."' in line
    make_certificates(root / "certs", ["127.0.0.2"])
    assert problems(machine, capsys) == ["this machine and this installation are fine"]
    monkeypatch.setenv("ARENA_LLM_CA", str(root / "other/ca.crt"))
    (line,) = problems(machine, capsys)
    assert "router.yaml: tls.certificate: unable to get local issuer certificate" in line
    assert "ARENA_LLM_CA" in line


def test_a_service_that_runs_and_does_not_answer(
    machine: Supervisor, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SystemState({"router": Process("RUNNING", 1)}, managed=True)
    monkeypatch.setattr(machine, "inspect", lambda: state)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setattr(machine, "addresses", lambda: {"router": address})
    (line,) = problems(machine, capsys)
    assert line.startswith(f"router runs and is UNREACHABLE at {address}: make logs")
