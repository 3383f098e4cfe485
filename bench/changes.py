"""Calls that are lost while replicas come, go and restart: `python -m bench.changes`.

Callers, each with its own session, call a small system of `make up`: the router, and a service in
place of hf that answers immediately. Meanwhile 20 changes are made: `make scale` up and down,
`make restart`, and replicas that are killed. No call may fail.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from arena_llm import ArenaError, AsyncClient
from bench import harness
from bench.goals import Goal
from deploy.probe import health

if TYPE_CHECKING:
    from tests.support.system import SmallSystem

CALLS, CALLERS, SESSIONS = 10_000, 10, 200
MODEL = "hf_stand-in"

GOALS = (
    Goal("calls during 20 changes", ("answered",), ">=", CALLS),
    Goal("calls lost", ("calls_lost",), "<=", 0),
    Goal("slowest call", ("slowest",), "<=", 15, "s"),
    Goal("sessions that one more replica moves, times replicas", ("moved",), "<=", 1.5),
)

Change = Callable[[], None]


@dataclass
class CallerOutcome:
    """What the callers saw.

    moves: between two changes, the share of sessions that changed their replica.
    """

    answered: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    moves: list[float] = field(default_factory=list)
    slowest: float = 0.0


class Callers:
    """Callers that make one call after another until `call_during` ends."""

    def __init__(self, target: str, sessions: int) -> None:
        self._target = target
        self._sessions = [f"game-{number}" for number in range(sessions)]
        self.outcome = CallerOutcome()
        self._stopping = False

    async def call_during(
        self, changes: Sequence[Change], callers: int, calls: int
    ) -> CallerOutcome:
        """Make calls during all changes, and afterwards until there are `calls` of them."""
        async with AsyncClient(self._target, timeout=60) as llm:
            loops = [asyncio.create_task(self._call(llm, n, callers)) for n in range(callers)]
            homes = await self._find_homes(llm)
            for change in changes:
                await asyncio.to_thread(change)
                found = await self._find_homes(llm)
                moved = sum(found[session] != homes[session] for session in homes)
                self.outcome.moves.append(moved / len(homes))
                homes = found
            while self.outcome.answered < calls and not self.outcome.lost:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            self._stopping = True
            await asyncio.gather(*loops)
        return self.outcome

    async def _call(self, llm: AsyncClient, first: int, step: int) -> None:
        while not self._stopping:
            for session in self._sessions[first::step]:
                begun = time.monotonic()
                try:
                    await llm.generate(MODEL, "Your move?", session=session)
                    self.outcome.answered += 1
                except ArenaError as error:
                    self.outcome.lost[str(error)] += 1
                self.outcome.slowest = max(self.outcome.slowest, time.monotonic() - begun)

    async def _find_homes(self, llm: AsyncClient) -> dict[str, str]:
        """The replica of each session."""
        return {
            session: (await llm.generate(MODEL, "?", session=session)).served_by.replica
            for session in self._sessions
        }


def make_changes(system: SmallSystem) -> list[tuple[str, Change]]:
    """Return 20 changes with their names. The system has one replica before and after them."""

    def run(*command: str) -> tuple[str, Change]:
        def change() -> None:
            done = system.deploy(*command)
            if done.returncode:
                raise RuntimeError(done.stderr + system.logs())

        return " ".join(command), change

    def kill(name: str) -> tuple[str, Change]:
        def change() -> None:
            pid = system.pid(name)
            os.kill(pid, signal.SIGKILL)
            address = system.supervisor.addresses()[name]
            while system.pid(name) in (0, pid) or health(address) != "SERVING":
                time.sleep(0.05)

        return f"kill {name}", change

    round_trip = [
        *(run("scale", "hf", str(count)) for count in (2, 3, 4)),
        kill("hf-3"),
        run("restart", "hf-2"),
        run("restart", "hf"),
        kill("hf"),
        *(run("scale", "hf", str(count)) for count in (3, 1)),
        run("restart", "hf"),
    ]
    return round_trip * 2


def main() -> None:
    """Print the tables and write the JSON."""
    from tests.support.system import SmallSystem

    with tempfile.TemporaryDirectory() as folder:
        system = SmallSystem(Path(folder) / "run")
        try:
            system.up()
            changes = make_changes(system)
            callers = Callers(system.target, SESSIONS)
            steps = [change for _, change in changes]
            outcome = asyncio.run(callers.call_during(steps, CALLERS, CALLS))
        finally:
            system.close()
    rows = [(name, share) for (name, _), share in zip(changes, outcome.moves, strict=True)]
    harness.print_table("share of sessions that moved", ["change", "share"], rows)
    added = [
        share * int(name.split()[-1])
        for name, share in rows
        if name.startswith("scale") and name.endswith(("2", "3", "4")) and share
    ]
    for reason, count in outcome.lost.items():
        print(f"{count} x {reason}")
    sums = {"calls_lost": sum(outcome.lost.values()), "moved": statistics.median(added)}
    harness.write_results("changes", GOALS, vars(outcome) | {"moves": rows} | sums)


if __name__ == "__main__":
    main()
