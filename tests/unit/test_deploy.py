"""The list of services, what each may see, and the configuration of their process manager."""

from __future__ import annotations

import io
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy import output, up
from deploy.instances import Instance, ReplicaCounts, find_sets, make_instances
from deploy.managed import ManagedService, ServiceNeeds, common_environment
from deploy.manager_config import render_config
from deploy.probe import free_port_after, port_problem
from deploy.services import ALL_SERVICES, ROOT, VLLM, find_service, selected_services
from deploy.supervisor import Supervisor
from router.targets import KnownReplicas
from services.common.config import ServiceConfig
from tests.support.ports import free_ports

KEYED = ManagedService(
    *("keyed", "services.keyed", "keyed_models.yaml"),
    lambda: ServiceNeeds(ServiceConfig, ("KEYED_*",)),
)
PLAIN = ManagedService(
    "plain", "services.plain", "plain_models.yaml", lambda: ServiceNeeds(ServiceConfig)
)


def test_a_key_reaches_its_own_service_only() -> None:
    environ = {"PATH": "/bin", "KEYED_API_KEY": "1", "STRANGER": "2", "ARENA_ROUTER_PORT": "3"}
    assert set(common_environment(environ)) == {"PATH", "ARENA_ROUTER_PORT"}
    assert set(KEYED.sees(environ)) == {"PATH", "KEYED_API_KEY", "ARENA_ROUTER_PORT"}
    assert set(PLAIN.sees(environ)) == {"PATH", "ARENA_ROUTER_PORT"}


#: A key, and the services that may see it.
_KEYS = {
    "OPENROUTER_API_KEY": {"openrouter"},
    "OPENAI_API_KEY": {"litellm"},
    "ANTHROPIC_API_KEY": {"litellm"},
    "AWS_SECRET_ACCESS_KEY": {"litellm"},
    "MY_SERVER_API_KEY": {"litellm"},
    "GOOGLE_APPLICATION_CREDENTIALS": {"litellm"},
    "HF_TOKEN": {"hf", "vllm"},
    "VALKEY_URL": {"edge", "router"},
    "GITHUB_TOKEN": set(),
    "SSH_AUTH_SOCK": set(),
}


@pytest.mark.parametrize(("variable", "services"), _KEYS.items())
def test_no_service_sees_the_keys_of_others(variable: str, services: set[str]) -> None:
    planted = {variable: "planted"}
    assert {s.name for s in ALL_SERVICES if s.sees(planted)} == services
    assert not common_environment(planted)


def test_the_routers_configuration_may_name_its_own_variables_of_the_file_env(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The password of a cache's server, as docs/resilience.md says."""
    text = (ROOT / "configs/router.yaml").read_text()
    (tmp_path / "router.yaml").write_text(text + "cache: {store: '${VALKEY_URL}'}\n")
    (tmp_path / ".env").write_text("VALKEY_URL=valkey://:password@127.0.0.1:1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARENA_CONFIG_DIR", str(tmp_path))
    monkeypatch.delenv("VALKEY_URL", raising=False)
    for name in ("ARENA_ROUTER_PORT", "ARENA_ROUTER_METRICS_PORT"):
        monkeypatch.setenv(name, str(free_ports(1)[0]))
    for service in (find_service("router"), find_service("edge")):
        assert service.address.startswith("127.0.0.1:")  # without the password
        assert service.read_config().cache.store == "valkey://:password@127.0.0.1:1"
    assert "VALKEY_URL" not in os.environ
    done = subprocess.run(
        [sys.executable, "-m", "router"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "cache.store: the Valkey server does not answer" in done.stderr
    assert "password" not in done.stderr


def test_vllm_runs_in_its_own_environment() -> None:
    hf = find_service("hf")
    text = render_config([Instance(one, 1, "127.0.0.1:1") for one in (hf, VLLM)])
    assert f"{shlex.quote(sys.executable)} -m services.hf" in text
    assert f"{shlex.quote(str(VLLM.python))} -m services.vllm" in text


@pytest.mark.parametrize(
    ("value", "started"), [(None, False), ("", False), ("0", False), ("1", True)]
)
def test_vllm_starts_only_if_its_variable_is_set(
    monkeypatch: pytest.MonkeyPatch, value: str | None, started: bool
) -> None:
    monkeypatch.delenv("VLLM", raising=False)
    if value is not None:
        monkeypatch.setenv("VLLM", value)
    assert (VLLM in selected_services()) == started


def test_every_service_has_its_module_and_configuration() -> None:
    for service in ALL_SERVICES:
        assert (ROOT / service.module.replace(".", "/") / "__main__.py").is_file()
        config = yaml.safe_load((ROOT / "configs" / service.config).read_text())
        listen = config["edge" if service.name == "edge" else "listen"]
        assert listen.startswith("${ARENA_LISTEN_HOST:-127.0.0.1}:${" + service.variable + ":-")


def test_help_lists_every_target() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert re.findall(r"^  make ([\w-]+) ", shown.stdout, re.MULTILINE) == phony[1].split()
    assert max(map(len, shown.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("target", "updates"), [("up", True), ("down", False), ("status", False), ("logs", False)]
)
def test_stopping_and_looking_does_not_update_the_environment(
    target: str, updates: bool, tmp_path: Path
) -> None:
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    makefile = (ROOT / "Makefile").read_text()
    lock = re.search(r"^LOCK := (.*)$", makefile, re.MULTILINE)
    assert lock is not None
    names = [name for name in lock[1].split() if not name.startswith("deploy/")]
    for name in (".venv/.complete", *names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    command = ["make", "--dry-run", "--what-if=pyproject.toml", target]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"-m deploy {target}" in shown.stdout
    assert ("deploy/environment.py" in shown.stdout) == updates


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"null", b"{", b"\xff", b'{"router": 5}', b'{"router": "x"}', b'{"hf": "h:1"}'],
)
def test_an_unreadable_addresses_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "addresses.json"
    file.write_bytes(b'{"router": "127.0.0.1:1"}')
    assert Supervisor(tmp_path).addresses() == {"router": "127.0.0.1:1"}
    file.write_bytes(content)
    assert Supervisor(tmp_path).addresses() == {}


def test_replicas_get_addresses_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    hf = find_service("hf")
    first, second, *_ = (f"127.0.0.1:{port}" for port in free_ports(2))
    monkeypatch.setenv("ARENA_HF_PORT", first.rpartition(":")[2])
    (_, near, far) = make_instances(hf, 3, [])
    assert len({first, near.address, far.address}) == 3
    assert near.command[-4:] == ["--listen", near.address, "--metrics", "127.0.0.1:0"]
    # Another service has the next address, and a replica that runs keeps its own.
    found = make_instances(hf, 3, [near.address], {"hf-3": second})
    assert [instance.name for instance in found] == ["hf", "hf-2", "hf-3"]
    assert found[1].address not in (first, near.address, second)
    assert found[2].address == second


def test_a_unix_socket_has_no_replicas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain_models.yaml").write_text(f"listen: unix:{tmp_path}/s")
    monkeypatch.setenv("ARENA_CONFIG_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="is one socket"):
        make_instances(PLAIN, 2, [])


def test_the_router_is_told_who_may_be_called() -> None:
    addresses = {"router": "127.0.0.1:1", "hf": "0.0.0.0:2", "hf-2": "0.0.0.0:3"}
    one, two = "127.0.0.1:2", "127.0.0.1:3"
    assert find_sets(addresses) == {one: KnownReplicas(targets=[one, two])}
    assert find_sets(addresses, without=["hf"]) == {one: KnownReplicas(targets=[two])}
    del addresses["hf-2"]
    assert find_sets(addresses) == {}
    assert find_sets(addresses, held=["hf"]) == {one: KnownReplicas(targets=[one], held=True)}


def test_the_numbers_of_replicas(tmp_path: Path) -> None:
    counts = ReplicaCounts(tmp_path)
    assert counts.read("hf") == 1
    counts.write("hf", 3)
    assert (ReplicaCounts(tmp_path).read("hf"), counts.read("vllm")) == (3, 1)
    counts.write("hf", 1)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "counts.json").write_text('{"hf": 1000}')
    assert counts.read("hf") == 1


def test_a_log_is_shown_from_this_start_on(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    log = supervisor.log("hf")
    assert supervisor.log_lines("hf") == []
    log.parent.mkdir()
    log.write_text("an earlier start\n")
    supervisor.mark_logs(["hf"])
    with log.open("a") as file:
        file.write("this start\n")
    assert supervisor.log_lines("hf") == ["this start"]
    log.write_text("rotated\n")
    assert supervisor.log_lines("hf") == ["rotated"]


def test_what_holds_a_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert re.search(
            rf"in use \(held by .+, pid {os.getpid()}\)$", port_problem(f"127.0.0.1:{port}")
        )
        # An outgoing connection can have a service's port, too.
        with socket.create_connection(("127.0.0.1", port)) as caller:
            own = caller.getsockname()[1]
            problem = port_problem(f"127.0.0.1:{own}")
            assert "a connection of " in problem
            assert f"pid {os.getpid()} has it: try again" in problem


def test_the_port_that_is_offered_is_no_other_services() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    first = free_port_after(address)
    assert first is not None
    other = free_port_after(address, [f"127.0.0.1:{first}"])
    assert other is not None
    assert other > first


def test_the_command_that_is_offered_keeps_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        monkeypatch.setenv("ARENA_HF_PORT", port)
        monkeypatch.setenv("MAKEFLAGS", f"w --jobserver-auth=3,4 -- VLLM=0 ARENA_HF_PORT={port}")
        with pytest.raises(
            up.DeployError, match=r"\n  make up VLLM=0 ARENA_HF_PORT=\d+$"
        ) as refused:
            up._checked_instances([find_service("hf")], Supervisor(Path("unused")))
    assert f"ARENA_HF_PORT={port}" not in str(refused.value)


def test_an_address_stays_on_the_line_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    listening = {"hf": "127.0.0.1:50054", "router": "[::1]:50050", "edge": "unix:/run/edge"}
    text = f"started: {', '.join(f'{name} on {place}' for name, place in listening.items())}"
    for columns in range(25, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "stdout", Terminal())
        output.say(text)
        lines = sys.stdout.getvalue().splitlines()  # type: ignore[attr-defined]
        assert " ".join(lines) == text
        for name, place in listening.items():
            assert any(f"{name} on {place}" in line for line in lines), columns
