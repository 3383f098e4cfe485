"""How the system is run: what can be told without running it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy import bootstrap, bootstrap_vllm
from deploy.program import environment, hidden, render
from deploy.services import ROOT, SERVICES, VLLM, Service, wanted
from deploy.supervisor import Supervisor

KEYED = Service("keyed", "services.keyed", "keyed_models.yaml", ("KEYED_*",))
PIN = r"[\w.-]+==[\w.]+"
PLAIN = Service("plain", "services.plain", "plain_models.yaml")


@pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 10)])
def test_an_old_python_is_told_what_to_do(version: tuple[int, int]) -> None:
    reason = bootstrap.problem(version)
    assert reason is not None
    assert f"{version[0]}.{version[1]} is too old" in reason
    assert "PYTHON=" in reason


def test_this_python_will_do() -> None:
    assert bootstrap.problem() is None


def test_the_lock_serves_machines_of_every_kind() -> None:
    lines = [line for line in Path(bootstrap.LOCK).read_text().splitlines() if line[0] != "#"]
    assert [line for line in lines if not re.fullmatch(PIN, line)] == []
    assert {"torch==2.13.0", "grpcio==1.75.0", *bootstrap.CARRIERS} <= set(lines)


@pytest.mark.parametrize("build", bootstrap_vllm.BUILDS)
def test_each_build_of_vllm_has_its_lock(build: str) -> None:
    lines = Path(bootstrap_vllm.lock_file(build)).read_text().splitlines()
    assert [line for line in lines if line[0] != "#" and not re.fullmatch(PIN, line)] == []
    asked = {line.replace("===", "==") for line in bootstrap_vllm.BUILDS[build]}
    assert {"grpcio==1.75.0", *asked} <= set(lines)


def test_the_lock_for_gpus_has_the_libraries_of_torch() -> None:
    """Those of a torch for CPUs are none, and others' versions of them do not fit."""
    text = Path(bootstrap_vllm.lock_file("cuda")).read_text()
    for library in ("cuda-toolkit", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-nccl-cu13"):
        assert f"\n{library}==" in text


def test_a_key_reaches_its_own_service_only() -> None:
    environ = {"PATH": "/bin", "KEYED_API_KEY": "1", "STRANGER": "2", "ARENA_ROUTER_PORT": "3"}
    seen = environment([KEYED, PLAIN], environ)
    assert set(seen) == {"PATH", "KEYED_API_KEY", "ARENA_ROUTER_PORT"}
    assert hidden(KEYED, seen) == []
    assert hidden(PLAIN, seen) == ["KEYED_API_KEY"]


#: A key, and the services that may see it.
_KEYS = {
    "OPENROUTER_API_KEY": {"openrouter"},
    "OPENAI_API_KEY": {"litellm"},
    "ANTHROPIC_API_KEY": {"litellm"},
    "AWS_SECRET_ACCESS_KEY": {"litellm"},
    "MY_SERVER_API_KEY": {"litellm"},
    "GOOGLE_APPLICATION_CREDENTIALS": {"litellm"},
    "HF_TOKEN": {"hf", "vllm"},
    "GITHUB_TOKEN": set(),
    "SSH_AUTH_SOCK": set(),
}


@pytest.mark.parametrize(("variable", "services"), _KEYS.items())
def test_no_service_sees_the_keys_of_others(variable: str, services: set[str]) -> None:
    every = (*SERVICES, VLLM)
    seen = environment(every, {variable: "planted"})
    assert {s.name for s in every if variable in seen and variable not in hidden(s, seen)} == (
        services
    )
    assert bool(seen) == bool(services)


def test_the_configuration_holds_no_values() -> None:
    text = render([KEYED, PLAIN], {"KEYED_API_KEY": "planted"})
    assert "-u KEYED_API_KEY" in text
    assert "planted" not in text


def test_each_service_runs_in_its_own_environment() -> None:
    text = render([PLAIN, VLLM], {})
    assert f"{sys.executable} -m services.plain" in text
    assert f"{ROOT}/.venv-vllm/bin/python -m services.vllm" in text


@pytest.mark.parametrize(
    ("value", "started"), [(None, False), ("", False), ("0", False), ("1", True)]
)
def test_vllm_is_started_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, value: str | None, started: bool
) -> None:
    monkeypatch.delenv("VLLM", raising=False)
    if value is not None:
        monkeypatch.setenv("VLLM", value)
    assert (VLLM in wanted()) == started


def test_every_service_has_its_module_and_configuration() -> None:
    for service in (*SERVICES, VLLM):
        assert (ROOT / service.module.replace(".", "/") / "__main__.py").is_file()
        listen = yaml.safe_load((ROOT / "configs" / service.config).read_text())["listen"]
        assert listen.startswith("127.0.0.1:${" + service.variable + ":-")


def test_help_lists_every_target() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert re.findall(r"^  make ([\w-]+) ", shown.stdout, re.MULTILINE) == phony[1].split()


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"null", b"{", b"\xff", b'{"router": 5}', b'{"router": "x"}', b'{"hf": "h:1"}'],
)
def test_addresses_that_cannot_be_read_are_not_known(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "addresses.json"
    file.write_bytes(b'{"router": "127.0.0.1:1"}')
    assert Supervisor(tmp_path).addresses() == {"router": "127.0.0.1:1"}
    file.write_bytes(content)
    assert Supervisor(tmp_path).addresses() == {}
