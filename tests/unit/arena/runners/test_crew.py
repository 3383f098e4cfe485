"""Workers on the nodes of a cluster: who gets one, and what follows the end of one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from arena.runners import crew
from arena.runners.crew import Crew, Node, RayError, WorkerLost
from tests.support.waiting import eventually


class FakeCluster:
    """Nodes, the reasons for which they are refused, and how their workers end.

    running: workers, by node. started: how many each node has had.
    """

    def __init__(self, *names: str, cpus: int = 2) -> None:
        self.nodes = {name: Node(name, name, cpus) for name in names}
        self.refusals: dict[str, str] = {}
        self.running: dict[str, dict[int, asyncio.Future[str]]] = {name: {} for name in names}
        self.started: Counter[str] = Counter()
        self.workers = FakeCoordinator()

    async def list_nodes(self) -> list[Node]:
        return list(self.nodes.values())

    async def check(self, node: Node) -> str:
        return self.refusals.get(node.name, "")

    async def work(self, node: Node, worker: int) -> str:
        self.started[node.name] += 1
        future = self.running.setdefault(node.name, {})[worker] = asyncio.Future()
        self.workers.joined.add(worker)
        try:
            return await future
        finally:
            self.running[node.name].pop(worker, None)

    def end(self, name: str, outcome: str | WorkerLost) -> None:
        """End all workers of a node: with why they left it, or as lost."""
        futures, self.running[name] = list(self.running[name].values()), {}
        for future in futures:
            if isinstance(outcome, str):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

    def count(self) -> dict[str, int]:
        return {name: len(workers) for name, workers in self.running.items() if workers}


class FakeCoordinator:
    """Knows the workers. recorded: grows when they store something."""

    def __init__(self) -> None:
        self.joined: set[int] = set()
        self.recorded = 0
        self.waiting = False
        self.refused: dict[str, str] = {}

    async def leave(self, worker: int, died: bool = False) -> int:
        self.joined.discard(worker)
        return self.recorded

    async def has_waiting(self) -> bool:
        return self.waiting

    async def list_workers(self) -> frozenset[int]:
        return frozenset(self.joined)

    async def note_refused(self, refused: dict[str, str]) -> None:
        self.refused = refused


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LOOK_SECONDS", "_FIRST_RETRY", "_LONGEST_RETRY"):
        monkeypatch.setattr(crew, name, 0.01)


@asynccontextmanager
async def run(
    cluster: FakeCluster, places: int = 64, patience: float = 60
) -> AsyncIterator[asyncio.Task[None]]:
    running = asyncio.create_task(Crew(cluster, cluster.workers, places, patience).run())
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.wait([running])


def has(cluster: FakeCluster, **workers: int) -> Callable[[], bool]:
    return lambda: cluster.count() == workers


@pytest.mark.parametrize(
    ("places", "workers"),
    [(1, {"a": 1}), (2, {"a": 1, "b": 1}), (48, {"a": 2, "b": 1}), (999, {"a": 2, "b": 2})],
)
async def test_as_many_workers_as_the_episodes_need(places: int, workers: dict[str, int]) -> None:
    cluster = FakeCluster("a", "b")
    async with run(cluster, places):
        await eventually(has(cluster, **workers))


async def test_a_node_that_joins_is_used_and_one_that_left_is_not() -> None:
    cluster = FakeCluster("a")
    async with run(cluster, 32) as running:
        await eventually(has(cluster, a=2))
        cluster.nodes["b"] = Node("b", "b", 2)
        await eventually(has(cluster, a=2, b=1))
        del cluster.nodes["a"]
        cluster.end("a", WorkerLost("the node died"))
        await eventually(has(cluster, b=2))
        cluster.end("b", "")
        await running
    assert cluster.started == {"a": 2, "b": 2}


async def test_a_node_that_cannot_play_gets_nothing_until_it_can() -> None:
    cluster = FakeCluster("a", "b")
    cluster.refusals["a"] = "no router"
    async with run(cluster):
        await eventually(lambda: cluster.workers.refused == {"a": "no router"})
        await eventually(has(cluster, b=2))
        cluster.refusals.clear()
        await eventually(has(cluster, a=2, b=2))
    assert cluster.workers.refused == {}


async def test_a_worker_that_lost_the_router_leaves_its_node_to_others() -> None:
    cluster = FakeCluster("a", "b")
    async with run(cluster, 32) as running:
        await eventually(has(cluster, a=1, b=1))
        cluster.refusals["a"] = "no router"
        cluster.end("a", "no router")
        await eventually(has(cluster, b=2))
        cluster.end("b", "")
        await running
    assert cluster.started["a"] == 1


async def test_episodes_of_a_dead_worker_are_played_if_the_last_other_one_had_just_ended() -> None:
    """The other one asked before the death, when nothing was left."""
    cluster = FakeCluster("a", "b", cpus=1)
    async with run(cluster):
        await eventually(has(cluster, a=1, b=1))
        cluster.workers.waiting = True  # those of the dead worker
        cluster.end("a", WorkerLost("killed"))
        cluster.end("b", "")
        await eventually(lambda: cluster.started["b"] == 2)


async def test_a_worker_may_die_often_while_others_store_replies() -> None:
    cluster = FakeCluster("a", cpus=1)
    async with run(cluster) as running:
        for death in range(1, 2 * crew._DEATHS):
            await eventually(lambda death=death: cluster.started["a"] == death)
            cluster.workers.recorded += 1
            cluster.end("a", WorkerLost("killed"))
        await eventually(has(cluster, a=1))
        cluster.end("a", "")
        await running


async def test_workers_that_only_die_end_the_run() -> None:
    cluster = FakeCluster("a", cpus=1)
    async with run(cluster) as running:
        for death in range(1, crew._DEATHS + 2):
            await eventually(lambda death=death: cluster.started["a"] == death)
            cluster.end("a", WorkerLost("out of memory"))
        with pytest.raises(RayError, match=r"^11 workers in a row died .* one: out of memory$"):
            await running


async def test_a_cluster_in_which_no_node_can_play_is_a_clear_error() -> None:
    cluster = FakeCluster("a", "b")
    cluster.refusals = {"a": "no router", "b": "open-spiel 1"}
    async with run(cluster) as running:
        with pytest.raises(RayError, match=r"can play: a: no router; b: open-spiel 1$"):
            await running


async def test_an_error_of_the_results_ends_the_run() -> None:
    cluster = FakeCluster("a")
    async with run(cluster, 32) as running:
        await eventually(has(cluster, a=2))
        next(iter(cluster.running["a"].values())).set_exception(OSError("disk full"))
        with pytest.raises(OSError, match="disk full"):
            await running
    assert cluster.count() == {}, "the others are ended"
