"""Keeps workers on the nodes of a Ray cluster: on those that can play, as they come and go."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from arena.runners.coordinator import Coordinator

#: Episodes in flight per worker: with fewer, another worker is not worth its start.
_PLACES = 16
#: Seconds between two looks at the nodes.
_LOOK_SECONDS = 1.0
#: Seconds until a node that was refused is checked again: first, and the longest.
_FIRST_RETRY, _LONGEST_RETRY = 2.0, 60.0
#: Each worker may die this many times in a row without a stored reply or episode in between.
_DEATHS = 10


class RayError(Exception):
    """Ray cannot be reached, or has failed. All results so far are stored."""


class WorkerLost(Exception):
    """The process of a worker has ended, or its node."""


@dataclass(frozen=True, slots=True)
class Node:
    """A live node. address: of its machine. cpus: processors that Ray may use. refusal: why it
    never gets work; "" if it may."""

    name: str
    address: str
    cpus: int
    refusal: str = ""


class Cluster(Protocol):
    """What a crew needs of Ray."""

    async def list_nodes(self) -> Sequence[Node]: ...

    async def check(self, node: Node) -> str:
        """Return why a node cannot play now; "" if it can."""

    async def work(self, node: Node, worker: int) -> str:
        """Run a worker until no episodes are left.

        Returns why it had to leave its node; "" if it had not. Raises WorkerLost, and errors that
        end the run. If it is cancelled, the worker is killed.
        """


@dataclass(slots=True)
class _Place:
    """A node, and what the crew knows of it.

    checked: whether a check has ended. refusal: why it gets no work; "" if it can play. retry_at:
    when to check it again, or to start another worker.
    """

    node: Node
    checked: bool = False
    refusal: str = ""
    retry_at: float = 0.0
    pause: float = 0.0
    check: asyncio.Task[str] | None = None
    workers: dict[int, asyncio.Task[str]] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        return self.checked and not self.refusal


class Crew:
    """Runs one worker for each processor of the cluster, but no more than the episodes need.

    Each node that can play has at least one. A node gets its first worker after a check. A worker
    that died is replaced. If a node dies, others play the episodes of its workers again, with the
    stored replies. A run ends if no node can play for `patience` seconds, or if all workers die
    again and again without a reply.
    """

    def __init__(self, cluster: Cluster, coordinator: Coordinator, places: int, patience: float):
        self._cluster = cluster
        self._coordinator = coordinator
        self._places = places
        self._patience = patience
        self._nodes: dict[str, _Place] = {}
        self._numbers = 0
        self._nothing_left = False
        self._deaths = self._recorded = 0
        self._usable_at: float | None = None
        self._refused: dict[str, str] = {}

    async def run(self) -> None:
        """Play until no episodes are left. Raises RayError, and the errors of a worker."""
        try:
            while not await self._has_ended():
                await self._look()
                await self._start()
                tasks = [task for task in self._list_tasks() if task is not None]
                if tasks:
                    await asyncio.wait(
                        tasks, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                else:
                    await asyncio.sleep(_LOOK_SECONDS)
                for place in list(self._nodes.values()):
                    await self._collect(place)
        finally:
            tasks = list(self._list_tasks())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _list_tasks(self) -> Iterator[asyncio.Task[str]]:
        for place in self._nodes.values():
            yield from place.workers.values()
            if place.check is not None:
                yield place.check

    async def _has_ended(self) -> bool:
        """Whether nothing is left to play, and no worker plays."""
        if not self._nothing_left:
            return False
        # Others may still wait for a processor.
        return not await self._coordinator.list_workers()

    async def _look(self) -> None:
        """Note which nodes have come and gone, and check those that are due."""
        nodes = {node.name: node for node in await self._cluster.list_nodes()}
        for name in self._nodes.keys() - nodes.keys():
            if not self._nodes[name].workers:  # else first collect how they ended
                place = self._nodes.pop(name)
                if place.check is not None:
                    place.check.cancel()
        now = time.monotonic()
        for name, node in nodes.items():
            place = self._nodes.setdefault(name, _Place(node))
            if node.refusal:
                place.checked, place.refusal = True, node.refusal
            elif not place.usable and place.check is None and now >= place.retry_at:
                place.check = asyncio.create_task(self._cluster.check(node))
        if refused := await self._note_refused():
            self._check_usable(refused, now)

    async def _note_refused(self) -> dict[str, str]:
        """Report the nodes that cannot play, if they have changed."""
        refused = {
            place.node.address: place.refusal for place in self._nodes.values() if place.refusal
        }
        if refused != self._refused:
            self._refused = refused
            await self._coordinator.note_refused(refused)
        return refused

    def _check_usable(self, refused: dict[str, str], now: float) -> None:
        """Raise RayError if no node has been able to play for too long."""
        places = self._nodes.values()
        if any(place.usable or place.check is not None for place in places):
            return
        if self._usable_at is None or now > self._usable_at + self._patience:
            reasons = "; ".join(f"{address}: {reason}" for address, reason in refused.items())
            raise RayError(f"no node of the cluster can play: {reasons}")

    async def _start(self) -> None:
        """Start the workers that are missing, on the nodes with the fewest."""
        now = time.monotonic()
        places = [place for place in self._nodes.values() if place.usable]
        if places:
            self._usable_at = now
        cpus = sum(place.node.cpus for place in places)
        wanted = min(cpus, math.ceil(self._places / _PLACES))
        running = sum(len(place.workers) for place in places)
        missing = max(wanted - running, sum(not place.workers for place in places))
        missing = min(missing, self._places - running)
        while not self._nothing_left and missing > 0:
            free = [p for p in places if len(p.workers) < p.node.cpus and now >= p.retry_at]
            if not free:
                return
            place = min(free, key=lambda place: len(place.workers))
            work = self._cluster.work(place.node, self._numbers)
            place.workers[self._numbers] = asyncio.create_task(work)
            self._numbers += 1
            missing -= 1

    async def _collect(self, place: _Place) -> None:
        """Take the results of what has ended on a node."""
        now = time.monotonic()
        if place.check is not None and place.check.done():
            place.checked, place.refusal = True, place.check.result()
            place.check = None
            self._pause(place, now, bool(place.refusal))
        for worker in [worker for worker, task in place.workers.items() if task.done()]:
            task = place.workers.pop(worker)
            try:
                refusal = task.result()
            except WorkerLost as lost:
                self._nothing_left = False
                recorded = await self._coordinator.leave(worker, True)
                if recorded > self._recorded:
                    self._recorded, self._deaths, place.pause = recorded, 0, 0.0
                self._count_death(str(lost))
                self._pause(place, now, True)
                continue
            await self._coordinator.leave(worker)
            if refusal:
                place.refusal, self._nothing_left = refusal, False
                self._pause(place, now, True)
            else:
                # Another worker may have died since this one asked.
                self._nothing_left = not await self._coordinator.has_waiting()

    @staticmethod
    def _pause(place: _Place, now: float, longer: bool) -> None:
        """Set when a node may be tried again: now, or after a longer pause than last time."""
        doubled = min(max(2 * place.pause, _FIRST_RETRY), _LONGEST_RETRY)
        place.pause = doubled if longer else 0.0
        place.retry_at = now + place.pause

    def _count_death(self, reason: str) -> None:
        """Raise RayError if workers die again and again, and none has stored anything."""
        self._deaths += 1
        workers = max(1, sum(len(place.workers) for place in self._nodes.values()))
        if self._deaths > _DEATHS * workers:
            raise RayError(
                f"{self._deaths} workers in a row died without a reply or an episode; the last "
                f"one: {reason}"
            )
