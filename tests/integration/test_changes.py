"""Changes of a running system: services that are added, restarted and scaled while calls run."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from arena_llm import AsyncClient, Client
from arena_llm.types import ReplicaState
from bench.changes import Callers, make_changes
from deploy.services import ROOT
from tests.support.system import SmallSystem
from tests.support.waiting import eventually
from tests.support.wire import until_running


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallSystem]:
    """A small system that is up, with a configuration of its own."""
    folder = tmp_path_factory.mktemp("changes")
    configs = shutil.copytree(ROOT / "configs", folder / "configs")
    running = SmallSystem(folder / "run", {"ARENA_CONFIG_DIR": str(configs)})
    running.up()
    yield running
    running.close()


def deploy(system: SmallSystem, *command: str) -> str:
    done = system.deploy(*command)
    assert done.returncode == 0, done.stderr + system.logs()
    return done.stdout


async def test_no_call_is_lost_while_replicas_change(system: SmallSystem) -> None:
    """`python -m bench.changes` makes 20 changes and 10,000 calls."""
    known = dict(make_changes(system))
    names = ("scale hf 2", "kill hf", "scale hf 1", "restart hf")
    callers = Callers(system.target, sessions=100)
    outcome = await callers.call_during([known[name] for name in names], callers=5, calls=500)
    assert not outcome.lost
    moved = dict(zip(names, outcome.moves, strict=True))
    assert 0 < moved["scale hf 2"] <= 1.5 / 2


def test_the_number_of_replicas_stays_over_down_and_up(system: SmallSystem) -> None:
    deploy(system, "scale", "hf", "2")
    rows = json.loads(deploy(system, "status", "--json"))
    assert [row["service"] for row in rows] == ["router", "hf", "hf-2"]
    assert {row["health"] for row in rows} == {"SERVING"}
    with Client(system.target) as llm:
        found = next(one for one in llm.service_info().backends if one.backend == "hf")
    assert [replica.address for replica in found.replicas] == [row["address"] for row in rows[1:]]
    system.down()
    up = deploy(system, "up")
    assert "hf-2 on 127.0.0.1:" in up
    assert "serving" in deploy(system, "logs", "--service", "hf-2", "--no-follow")
    deploy(system, "scale", "hf", "1")
    assert list(system.pids()) == ["hf", "router"]
    assert {path.name for path in system.run_dir.iterdir()} >= {"logs", "replicas.json"}


def test_make_up_restarts_what_has_changed_and_nothing_else(system: SmallSystem) -> None:
    before = system.pids()
    assert "already up" in deploy(system, "up")
    assert system.pids() == before

    # What a running service reads by itself.
    configs = Path(system.env["ARENA_CONFIG_DIR"])
    with (configs / "hf_models.yaml").open("a") as file:
        file.write("\nmax_calls_in_flight: 100\n")
    assert "already up" in deploy(system, "up")
    # What it does not.
    with (configs / "hf_models.yaml").open("a") as file:
        file.write("\nmax_idle_seconds: 100\n")
    assert "restarted hf:" in deploy(system, "up")
    assert system.pid("router") == before["router"]
    changed = system.pid("hf")
    assert changed != before["hf"]

    # A key that one service sees; later the shell does not set it any more.
    system.env["HF_TOKEN"] = "planted"  # noqa: S105
    assert "restarted hf:" in deploy(system, "up")
    del system.env["HF_TOKEN"]
    keyed = system.pids()
    assert "already up" in deploy(system, "up")
    assert system.pids() == keyed


def test_make_up_starts_what_is_missing(system: SmallSystem) -> None:
    router = system.pid("router")
    system.supervisor.remove(["hf"])
    assert "started hf:" in deploy(system, "up")
    assert system.pid("router") == router


def test_a_change_that_cannot_be_made_changes_nothing(system: SmallSystem) -> None:
    before = system.pids()
    for command, reason in (
        (("scale", "router", "2"), "set `workers` in"),
        (("scale", "edge", "2"), "uses all cores"),
        (("scale", "hf", "0"), "N must be from 1 to"),
        (("scale", "hff", "2"), "did you mean hf?"),
        (("restart", "hf-2"), "hf-2 does not run: there is hf"),
        (("restart", "edge"), "run make up EDGE=envoy"),
    ):
        done = system.deploy(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert reason in done.stderr
    system.env["ARENA_PLANTED_CRASH"] = "planted"
    done = system.deploy("scale", "hf", "2")
    del system.env["ARENA_PLANTED_CRASH"]
    assert done.returncode == 1
    assert "hf-2 does not stay up" in done.stderr
    assert system.pids() == before
    assert "already up" in deploy(system, "up")


async def test_make_up_repairs_a_change_that_was_interrupted(
    system: SmallSystem, tmp_path: Path
) -> None:
    deploy(system, "scale", "hf", "2")
    finish = tmp_path / "finish"
    address = system.supervisor.addresses()["hf-2"]
    async with AsyncClient(address) as llm:
        call = asyncio.create_task(llm.generate("hf_model", f"until {finish}"))
        await until_running(address, 1)
        with system.start("scale", "hf", "1") as change:
            await eventually(lambda: system.process("hf-2").state == "STOPPING")
            change.terminate()
        with system.start("up") as up:
            finish.touch()
            assert (await call).text == "Paris"
            assert up.wait() == 0, up.stderr.read()  # type: ignore[union-attr]
    async with AsyncClient(system.target) as llm:
        (backend,) = [one for one in (await llm.service_info()).backends if one.backend == "hf"]
    assert [one.state for one in backend.replicas] == [ReplicaState.SERVING] * 2
    deploy(system, "scale", "hf", "1")
