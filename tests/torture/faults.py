"""The kind `faults`: a tournament plays while everything around it dies, changes and comes back."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path

from deploy.certificates import make_certificates
from tests.support.guard import kill_at_exit
from tests.torture.calls import Caller, check_normal
from tests.torture.plans import from_faults
from tests.torture.providers import Asked
from tests.torture.record import Record
from tests.torture.system import TOKENS, System
from tests.torture.watch import check_logs, take_samples, wait_until_idle

#: Games in flight, and seconds between two faults.
_GAMES, _PAUSE = 8, 1.0
#: Episodes of each line-up that are played in a second, about.
_RATE = 3
#: Seconds after the last fault in which the rest of the tournament must end.
PATIENCE = 120.0
#: The share of the provider's answers that are faults themselves.
_FAULTS = 0.05
_SPENT = "SELECT sum(cost_picousd), sum(unpriced), sum(unpriced_picousd) FROM runs"
_STATES = "SELECT status, count(*) FROM episodes GROUP BY status"
#: What a run prints once it knows the router's models. Without a router it ends before that.
_CHECKED = "models can run"


class Tournament:
    """`arena run` as a process, which may be killed and continued."""

    def __init__(self, system: System, episodes: int) -> None:
        self.results = system.folder / "games.sqlite"
        self._system = system
        experiment = {
            "name": "torture", "games": ["tic_tac_toe"],
            "models": ["openrouter_a/schema", "openrouter_a/plain"],
            "episodes": episodes, "episodes_in_flight": _GAMES, "max_tokens": 100, "patience": 600,
        }  # fmt: skip
        self._config = system.folder / "experiment.yaml"
        self._config.write_text(json.dumps(experiment))
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, or continue it, until it knows its models or has ended."""
        checks = self.log().count(_CHECKED)
        environment = {"ARENA_LLM_TARGET": self._system.router, "ARENA_LLM_TOKEN": TOKENS["games"]}
        self._log = (self._system.folder / "games.log").open("ab")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "arena.cli", "run", "--config", str(self._config),
            "--results", str(self.results), env=os.environ | environment,
            stdout=self._log, stderr=self._log,
        )  # fmt: skip
        self._guard = kill_at_exit(self.process.pid)
        async with asyncio.timeout(PATIENCE):
            while self.log().count(_CHECKED) == checks and self.process.returncode is None:  # noqa: ASYNC110 - asks a file
                await asyncio.sleep(0.1)

    async def kill(self) -> None:
        """Kill it, if it runs."""
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        self._guard.cancel()

    async def end(self) -> int:
        """Wait for its end, and return its exit code."""
        assert self.process is not None
        code = await self.process.wait()
        self._guard.cancel()
        return code

    def log(self) -> str:
        """What it has printed."""
        file = self._system.folder / "games.log"
        return file.read_text(errors="replace") if file.exists() else ""


# --- faults ------------------------------------------------------------------------------------

Fault = Callable[[System, Tournament, random.Random], Awaitable[None]]


async def _restart(system: System, name: str, dice: random.Random) -> None:
    process = system.processes[name]
    await asyncio.to_thread(process.kill)
    await asyncio.sleep(dice.choice([0.0, 0.5, 2.0]))
    await asyncio.to_thread(process.start)


async def kill_a_service(system: System, games: Tournament, dice: random.Random) -> None:
    """kill -9 a replica."""
    await _restart(system, dice.choice(["openrouter-0", "openrouter-1"]), dice)


async def kill_both_services(system: System, games: Tournament, dice: random.Random) -> None:
    """kill -9 all replicas at the same time."""
    names = ("openrouter-0", "openrouter-1")
    await asyncio.gather(*(_restart(system, name, dice) for name in names))


async def kill_the_router(system: System, games: Tournament, dice: random.Random) -> None:
    """kill -9 the router."""
    await _restart(system, "router", dice)


async def kill_the_gateway(system: System, games: Tournament, dice: random.Random) -> None:
    """kill -9 the gateway."""
    await _restart(system, "gateway", dice)


async def kill_the_runner(system: System, games: Tournament, dice: random.Random) -> None:
    """kill -9 the tournament, and continue it."""
    await games.kill()
    await games.start()


async def stop_a_service(system: System, games: Tournament, dice: random.Random) -> None:
    """A replica is suspended for some seconds."""
    process = system.processes[dice.choice(["openrouter-0", "openrouter-1"])]
    process.signal(signal.SIGSTOP)
    await asyncio.sleep(dice.choice([0.2, 3.0]))
    process.signal(signal.SIGCONT)


async def end_a_service(system: System, games: Tournament, dice: random.Random) -> None:
    """A replica drains, ends and starts again."""
    process = system.processes[dice.choice(["openrouter-0", "openrouter-1"])]
    process.signal(signal.SIGTERM)
    await asyncio.to_thread(process.process.wait, 40)
    await asyncio.to_thread(process.start)


async def provider_down(system: System, games: Tournament, dice: random.Random) -> None:
    """The provider answers 503 for a while."""
    planned = system.providers["openrouter"]
    planned.down = True
    await asyncio.sleep(dice.choice([0.5, 2.0, 5.0]))
    planned.down = False


async def broken_file(system: System, games: Tournament, dice: random.Random) -> None:
    """A configuration is broken for a while. The old one holds."""
    name = dice.choice(["router", "openrouter-0", "openrouter-1", "gateway", "tokens"])
    before = system.path(name).read_text()
    system.write_text(
        name, dice.choice(["", "{", "a: [", before[:20], "listen: 7", "\x00", "- 1", "routes: {}"])
    )
    await asyncio.sleep(1.5)
    system.write_text(name, before)


async def new_file(system: System, games: Tournament, dice: random.Random) -> None:
    """A configuration changes."""
    system.change("router", ask_timeout_seconds=1 + dice.random())
    system.change("openrouter-0", max_concurrency=dice.choice([64, 128]))
    await asyncio.sleep(1.2)


async def new_certificates(system: System, games: Tournament, dice: random.Random) -> None:
    """The certificates of the services and of the router are renewed."""
    await asyncio.to_thread(make_certificates, system.certs, [])
    await asyncio.sleep(1.2)


FAULTS: tuple[Fault, ...] = (
    kill_a_service, kill_both_services, kill_the_router, kill_the_gateway, kill_the_runner,
    stop_a_service, end_a_service, provider_down, broken_file, new_file, new_certificates,
)  # fmt: skip


async def torture(caller: Caller, record: Record, seconds: float) -> None:
    """Play a tournament on a system of its own during all these faults, each at least once."""
    with tempfile.TemporaryDirectory(prefix="torture-faults-") as made:
        async with System(Path(made), hf=False) as system:
            await _torture(Caller(system), record, seconds)


async def _torture(caller: Caller, record: Record, seconds: float) -> None:
    dice, system = record.dice("faults"), caller.system
    planned = system.providers["openrouter"]
    plan = record.dice("answers")

    def answer(asked: Asked):  # type: ignore[no-untyped-def]
        if plan.random() < _FAULTS:
            return from_faults(plan, False, "openrouter").plan(asked)
        return asked.reply, asked.cost

    planned.for_games = answer
    episodes = max(4, int(seconds * _RATE))
    games = Tournament(system, episodes)
    begun = take_samples(system)
    await games.start()
    try:
        end = time.monotonic() + seconds
        faults = list(FAULTS)
        dice.shuffle(faults)
        while faults and time.monotonic() < end:
            fault = faults.pop()
            faults = faults or dice.sample(FAULTS, len(FAULTS))
            before = planned.answers
            await fault(system, games, dice)
            name = fault.__name__.replace("_", " ")
            if await _continues(games, planned, before):
                record.answered(name)
            else:
                record.hang(name, PATIENCE)
                return
            await asyncio.sleep(_PAUSE * dice.random())
        try:
            async with asyncio.timeout(PATIENCE):
                code = await games.end()
        except TimeoutError:
            record.hang("the end of the tournament", PATIENCE)
            return
        _check_games(system, games, record, code, episodes)
        await check_normal(caller, record, "after all faults")
        await wait_until_idle(system, record)
        for name, sample in take_samples(system).items():
            if sample.files > begun[name].files + 40:
                record.fail(name, f"{sample.files} files, and {begun[name].files} at the start")
        check_logs(record, system)
    finally:
        planned.down = False
        await games.kill()


async def _continues(games: Tournament, planned, before: int) -> bool:  # type: ignore[no-untyped-def]
    """Wait until more moves are answered, or the tournament is over."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if planned.answers > before + 3 or games.process.returncode is not None:  # type: ignore[union-attr]
            return True
        await asyncio.sleep(0.05)
    return False


def _check_games(
    system: System, games: Tournament, record: Record, code: int, episodes: int
) -> None:
    """Every episode has ended, and the bill adds up."""
    if code:
        record.fail("the tournament", f"exit code {code}: {games.log()[-1500:]}")
        return
    with closing(sqlite3.connect(games.results)) as connection:
        states = dict(connection.execute(_STATES).fetchall())
        known, unknown, at_most = connection.execute(_SPENT).fetchone()
    expected = {"finished": 2 * episodes}
    if states != expected:
        record.fail("the tournament", f"{states}: {games.log()[-1500:]}")
    else:
        record.answered("the tournament")
    billed = sum(system.bill.games.values())
    text = f"billed {billed}, known {known}, and {unknown} unknown, at most {at_most}"
    if not known <= billed <= known + at_most:
        record.fail("the tournament's bill", text)
    else:
        record.answered(f"the tournament's bill: {text}")
