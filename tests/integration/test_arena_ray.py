"""The Ray runner: the same results as the sequential runner, even if processes are killed."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from arena.export.tables import TABLES
from arena.results.database import ResultsError
from tests.support.playing_service import Player
from tests.support.results import content
from tests.support.system import free_ports
from tests.support.waiting import eventually

EXPERIMENT = """
name: small
games: [tic_tac_toe, kuhn_poker, matrix_rps]
models: [hf_a, hf_held]
opponents: {random: {type: random}}
episodes: 2
"""


@pytest.fixture
def player(tmp_path: Path) -> Iterator[Player]:
    with Player(tmp_path) as player:
        yield player


@contextmanager
def begin(
    folder: Path, player: Player, script: str, results: str, more: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """Start a run. It is killed if the test fails. more: additional keys of the experiment."""
    config = folder / "experiment.yaml"
    config.write_text(EXPERIMENT + more)
    with subprocess.Popen(
        [
            *(sys.executable, f"scripts/{script}.py", "--config", config),
            *("--target", player.address, "--results", folder / results),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as driver:
        try:
            yield driver
        except BaseException:
            driver.kill()
            raise


def ended(path: Path) -> int:
    """The number of episodes in the results of a run in progress."""
    with suppress(ResultsError):  # the run has no tables yet
        return len(content(path)["episodes"]) if path.exists() else 0
    return 0


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """What the runs have stored, without what differs between two of them."""
    found = content(path)
    differs = ("latency_ms", "request_id", "replayed", "details")
    tables = {}
    for table in TABLES:
        kept = [place for place, (name, _) in enumerate(table.columns) if name not in differs]
        tables[table.name] = [tuple(row[place] for place in kept) for row in found[table.name]]
    return tables


def processes(driver: int) -> dict[psutil.Process, list[str]]:
    """The driver's child processes, with their command lines."""
    commands = {}
    for process in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            commands[process] = process.cmdline()
    return {process: command for process, command in commands.items() if command}


def workers(driver: int) -> list[psutil.Process]:
    return [one for one, command in processes(driver).items() if command[0] == "ray::_work"]


def connected_workers(driver: int, address: str) -> list[psutil.Process]:
    """The workers that call the models' service: a worker may start after others have played."""
    port = int(address.rpartition(":")[2])
    return [
        worker
        for worker in workers(driver)
        if any(c.raddr and c.raddr.port == port for c in worker.net_connections("inet"))
    ]


def listens_beyond_loopback(driver: int) -> list[object]:
    """The driver's child processes that other machines can reach."""
    listening = []
    for process, command in processes(driver).items():
        with suppress(psutil.NoSuchProcess):
            listening += [
                (command[:2], one.laddr)
                for one in process.net_connections("inet")
                if one.status == psutil.CONN_LISTEN
                and one.laddr.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
            ]
    return listening


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for Ray's files. Its path is short, because it will contain sockets."""
    # Ray's agents may outlive a killed driver and write to it.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


async def test_a_lost_worker(player: Player, tmp_path: Path, scratch: Path) -> None:
    """A worker is killed while a model does not answer: its episodes reuse the stored replies."""
    player.hold()
    with begin(tmp_path, player, "run_ray_multi_model", "ray.sqlite") as driver:
        await eventually(
            lambda: ended(tmp_path / "ray.sqlite") == 12 or driver.poll() is not None, 120
        )
        assert driver.poll() is None, driver.communicate()
        assert len(os.listdir(scratch)) == 1
        assert listens_beyond_loopback(driver.pid) == []
        children = processes(driver.pid)
        connected_workers(driver.pid, player.address)[0].kill()
        # A call that ends before the service sees that its caller left would have a stored reply.
        await eventually(lambda: player.cancelled() > 0)
        player.release()
        out, err = driver.communicate()
    assert driver.returncode == 0, err + out
    assert out.startswith("24 episodes: 24 finished\n")
    assert "a worker died: its episodes are played again" in err
    assert "raylet" not in out + err, "Ray prints nothing"
    await eventually(lambda: not any(process.is_running() for process in children))
    assert os.listdir(scratch) == []

    asked = player.asked()
    twice = {call for call, count in asked.items() if count > 1}
    assert twice
    assert {call.split()[0] for call in twice} == {"hf_held"}, "all other calls had stored replies"

    with begin(tmp_path, player, "run_multi_model_games", "sequential.sqlite") as plain:
        out, err = plain.communicate()
    assert plain.returncode == 0, err
    ours = rows(tmp_path / "ray.sqlite")
    assert ours == rows(tmp_path / "sequential.sqlite")
    assert ours["moves"]
    assert set(player.asked()) == set(asked), "both runners make the same calls"


class Cluster:
    """A cluster in a process of its own, whose nodes are raylets on this machine."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._address = ""

    @property
    def address(self) -> str:
        self._address = self._address or self._read()
        return self._address

    def add_node(self, **variables: str) -> psutil.Process:
        """Add a node with one processor; returns its raylet."""
        assert self.address
        print(json.dumps(variables), file=self._process.stdin, flush=True)
        return psutil.Process(int(self._read()))

    def _read(self) -> str:
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Starts a cluster, whose head plays no episodes; `address` waits for it."""
    command = [sys.executable, "-m", "tests.support.cluster"]
    pipe = subprocess.PIPE
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as running:
            yield Cluster(running)
            running.stdin.close()


def list_workers(raylet: psutil.Process, port: int | None = None) -> list[psutil.Process]:
    """The workers on a node; with a port, those that are connected to it."""
    found = []
    for process in raylet.children():
        with suppress(psutil.NoSuchProcess):
            if process.cmdline()[:1] == ["ray::_work"] and (
                port is None
                or any(c.raddr and c.raddr.port == port for c in process.net_connections("inet"))
            ):
                found.append(process)
    return found


@pytest.mark.cluster
async def test_a_lost_node(player: Player, tmp_path: Path, cluster: Cluster) -> None:
    """A node joins during a run, and the one that plays is killed: others play its episodes.

    Another node has a wrong version of OpenSpiel, and gets none.
    """
    port = int(player.address.rpartition(":")[2])
    wrong = tmp_path / "wrong/open_spiel-0.1.dist-info"
    wrong.mkdir(parents=True)
    (wrong / "METADATA").write_text("Metadata-Version: 2.1\nName: open-spiel\nVersion: 0.1\n")
    path = os.pathsep.join([str(wrong.parent), os.environ.get("PYTHONPATH", "")])
    refused = cluster.add_node(PYTHONPATH=path)
    first = cluster.add_node()
    player.hold()
    more = f"ray: {{address: '{cluster.address}'}}\nepisodes_in_flight: 20"
    with begin(tmp_path, player, "run_ray_multi_model", "ray.sqlite", more) as driver:
        await eventually(
            lambda: ended(tmp_path / "ray.sqlite") == 12 or driver.poll() is not None, 120
        )
        assert driver.poll() is None, driver.communicate()
        second = cluster.add_node()
        await eventually(lambda: list_workers(second), 120)
        assert list_workers(first, port)
        assert not list_workers(refused)
        for process in (first, *first.children()):  # the whole machine
            process.kill()
        await eventually(lambda: player.cancelled() > 0)
        player.release()
        out, err = driver.communicate()
    assert driver.returncode == 0, err + out
    assert out.startswith("24 episodes: 24 finished\n")
    assert "a worker died: its episodes are played again" in err
    assert "(raylet)" not in out + err, "Ray prints nothing"
    assert "gets no episodes: it has other versions of libraries: open-spiel 0.1 (here " in err

    asked = player.asked()
    twice = {call for call, count in asked.items() if count > 1}
    assert {call.split()[0] for call in twice} == {"hf_held"}, "all other calls had stored replies"
    with begin(tmp_path, player, "run_multi_model_games", "sequential.sqlite") as plain:
        out, err = plain.communicate()
    assert plain.returncode == 0, err
    assert rows(tmp_path / "ray.sqlite") == rows(tmp_path / "sequential.sqlite")
    refused.kill()


@pytest.mark.cluster
async def test_a_killed_driver(
    player: Player,
    tmp_path: Path,
    cluster: Cluster,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After kill -9 no Ray process is left, and another run continues on a cluster.

    The first run has a TMPDIR that is too long for sockets, as on macOS.
    """
    long = scratch / ("x" * 100) / ("x" * 100)
    long.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(long))
    player.hold()
    with begin(tmp_path, player, "run_ray_multi_model", "ray.sqlite") as driver:
        await eventually(lambda: ended(tmp_path / "ray.sqlite") == 12 or driver.poll(), 120)
        # Two of Ray's agents are left out, because they look for the driver for a minute.
        children = {
            process: command
            for process, command in processes(driver.pid).items()
            if "Agent" not in command[0]
        }
        assert {"ray::_Actor", "ray::_work"} <= {c[0].split(".")[0] for c in children.values()}
        driver.kill()
    await eventually(lambda: not any(process.is_running() for process in children))
    answered = {call for call in player.asked() if not call.startswith("hf_held")}
    player.release()
    cluster.add_node()
    ray = f"ray: {{address: '{cluster.address}'}}"
    with begin(tmp_path, player, "run_ray_multi_model", "ray.sqlite", ray) as again:
        out, err = again.communicate()
    assert again.returncode == 0, err
    assert out.startswith("24 episodes: 24 finished\n")
    assert {player.asked()[call] for call in answered} == {1}


def test_an_address_where_nothing_listens(player: Player, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    ray = f"ray: {{address: '{address}'}}"
    with begin(tmp_path, player, "run_ray_multi_model", "ray.sqlite", ray) as driver:
        out, err = driver.communicate()
    assert (driver.returncode, out) == (1, "")
    assert err.splitlines()[-1].startswith(f"arena: ray.address {address}: cannot be reached: ")
    assert not (tmp_path / "ray.sqlite").exists()
