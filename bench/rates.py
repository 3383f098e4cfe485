"""The openrouter service against providers that limit calls: `python -m bench.rates`.

Each kind of limit has its own provider, its own service, and a thousand callers that ask again
after each answer. All kinds run at the same time, so that the run need not be shortened by faster
calls: at 50 calls a second a bucket of 10 forgives a delay of 0.2 s, but at 500 only one of 0.02 s,
which an event loop under load exceeds.

An answer takes as long as a model's: 1 s (median), up to 60. Where 20 calls may be in flight, it
takes 0.4 s, always or on average, so that 50 calls a second are granted there, too. A call has a
deadline of 120 s. The run takes four minutes. "late" is the 99th percentile of how late the event
loop of callers and provider was. Over 0.1 s, the machine was too busy for the other figures.

`python -m bench.rates WAY` measures one kind, without the others.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from arena_llm import ArenaError, AsyncClient
from bench import harness
from bench.goals import Goal, format_goal, format_value, is_reached
from bench.limiters import FixedWindow, InFlight, Limiter, TokenBucket
from bench.provider import Provider, http_answer

CALLERS, DEADLINE, SECONDS = 1000, 120.0, 90.0
RATE, PLACES, BURST = 50.0, 20, 10
#: When a limit changes.
CHANGE = 45.0
#: Seconds in which the callers arrive.
ARRIVAL = 5.0
#: Seconds over which a recovery is looked at.
SPAN = 5.0

#: Each is the worst of all kinds of limit.
GOALS = (
    Goal("calls failed, 11 kinds of limit", ("worst", "failed"), "<=", 0),
    Goal("least share of the granted rate that is used", ("worst", "used"), ">=", 0.9, "%"),
    Goal("most requests for an answer", ("worst", "requests per answer"), "<=", 1.2),
    Goal("longest recovery from a limit that changes", ("worst", "recovery"), "<=", 5, "s"),
    Goal("late event loop of callers and provider, above which these are not valid",
         ("worst", "late"), "<=", 0.1, "s"),
)  # fmt: skip
_GOALS = {goal.place[-1]: goal for goal in GOALS}


def usual_seconds() -> float:
    return min(60.0, max(0.2, random.lognormvariate(0, 1)))


def quick_seconds() -> float:
    """`usual_seconds` with a mean of 0.4 s, so that 20 calls in flight are 50 a second."""
    return 0.24 * usual_seconds()


@dataclass(frozen=True)
class Way:
    """One kind of limit.

    could: calls that can be granted, or seconds of answers for a limit of calls in flight. hint:
    Retry-After of a refusal. services: how many share the limit. later: the rate after a change.
    takes: seconds of an answer.
    """

    make: Callable[[], Limiter]
    could: float
    hint: str = ""
    services: int = 1
    later: float = 0.0
    takes: Callable[[], float] = usual_seconds


def bucket(hint: str = "", services: int = 1) -> Way:
    return Way(lambda: TokenBucket(RATE, BURST), RATE * SECONDS + BURST, hint, services)


def window(seconds: float, hint: str = "") -> Way:
    return Way(lambda: FixedWindow(seconds, RATE), RATE * SECONDS, hint)


def changed(later: float) -> Way:
    could = RATE * CHANGE + later * (SECONDS - CHANGE)
    return Way(lambda: TokenBucket(RATE, BURST, (CHANGE, later)), could, later=later)


ABSURD = "4102444799"  # the year 2099

WAYS = {
    "bucket of 10": bucket(),
    "bucket of 10, right hint": bucket("right"),
    "bucket of 10, absurd hint": bucket(ABSURD),
    "bucket of 10, two services": bucket(services=2),
    "window of 1 s": window(1),
    "window of 10 s": window(10),
    "window of 10 s, absurd hint": window(10, ABSURD),
    "20 in flight": Way(lambda: InFlight(PLACES), PLACES * SECONDS, takes=lambda: PLACES / RATE),
    "20 in flight, varying": Way(lambda: InFlight(PLACES), PLACES * SECONDS, takes=quick_seconds),
    "bucket of 10, halved": changed(RATE / 2),
    "bucket of 10, doubled": changed(RATE * 2),
}


@dataclass
class Counts:
    """The calls that a provider got. Times count from the first call.

    granted, refused: their times. busy: seconds of all answers, up to the end of the run.
    """

    way: Way
    limiter: Limiter
    granted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    busy: float = 0.0
    begun: float = 0.0

    def arrive(self, seconds: float) -> bool:
        """Whether a call is let in. seconds: how long its answer takes."""
        self.begun = self.begun or time.monotonic()
        now = time.monotonic() - self.begun
        if self.limiter.arrive(now):
            self.granted.append(now)
            self.busy += max(0.0, min(seconds, SECONDS - now))
            return True
        self.refused.append(now)
        return False

    def hint(self) -> str:
        if self.way.hint != "right":
            return self.way.hint
        return f"{self.limiter.hint(time.monotonic() - self.begun):.3f}"

    def used(self) -> float:
        """The share of the limit that was used, until the end of the run."""
        if isinstance(self.limiter, InFlight):
            return self.busy / self.way.could
        return sum(at < SECONDS for at in self.granted) / self.way.could

    def recovery(self) -> float | None:
        """Seconds after a change until, over 5 s, 90 % is used with at most 1.2 requests a grant.

        None without a change, infinite if that is never reached.
        """
        if not self.way.later:
            return None
        for tenth in range(int((SECONDS - SPAN - CHANGE) * 10)):
            begin = CHANGE + tenth / 10
            granted = sum(begin <= at < begin + SPAN for at in self.granted)
            refused = sum(begin <= at < begin + SPAN for at in self.refused)
            if granted >= 0.9 * self.way.later * SPAN and refused <= 0.2 * granted:
                return tenth / 10
        return float("inf")


class Limited(Provider):
    """A connection to a provider with a limit that all its connections share."""

    def __init__(self, counts: Counts) -> None:
        super().__init__(0.0, 0.0)
        self._counts = counts

    def _answer(self, body: bytes) -> None:
        counts, loop = self._counts, asyncio.get_running_loop()
        seconds = counts.way.takes()
        if counts.arrive(seconds):
            loop.call_later(seconds, self._finish, body)
            return
        hint = counts.hint()
        header = f"Retry-After: {hint}\r\n" if hint else ""
        refusal = http_answer(429, '{"error":{"code":429,"message":"slow down"}}', header)
        loop.call_later(0.02, self._transport.write, refusal)

    def _finish(self, body: bytes) -> None:
        self._counts.limiter.end()
        super()._answer(body)


async def measure(way: Way) -> dict[str, float | None]:
    """Measure one kind of limit."""
    counts = Counts(way, way.make())
    server = await asyncio.get_running_loop().create_server(
        lambda: Limited(counts), "127.0.0.1", 0, backlog=2048
    )
    port = server.sockets[0].getsockname()[1]
    with ExitStack() as stack:
        addresses = [
            await asyncio.to_thread(start_service, stack, port) for _ in range(way.services)
        ]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)  # until the others are ready, too
        delays = asyncio.create_task(find_delays())
        answered, failed = await play(addresses)
        delays.cancel()
        server.close()
    return {
        "failed": float(failed),
        "answered": float(answered),
        "used": counts.used(),
        "requests per answer": 1 + len(counts.refused) / max(1, len(counts.granted)),
        "recovery": counts.recovery(),
        "late": await delays,
    }


def start_service(stack: ExitStack, port: int) -> str:
    """Start a service of the provider at a port. Return its address."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    address = harness.free_address()
    config = {"listen": address, "base_url": f"http://127.0.0.1:{port}/api/v1", "models": []}
    (folder / "openrouter_models.yaml").write_text(json.dumps(config))  # JSON is YAML
    env = {"ARENA_CONFIG_DIR": str(folder), "OPENROUTER_API_KEY": "sk-none"}
    service = stack.enter_context(harness.process("services.openrouter", env=env))
    harness.wait_serving(address, service, 300)
    return address


async def play(addresses: list[str]) -> tuple[int, int]:
    """Let all callers ask for some seconds. Return how many calls were answered and failed."""
    answered = failed = 0

    async def ask(llm: AsyncClient, after: float) -> None:
        nonlocal answered, failed
        await asyncio.sleep(after)
        while time.monotonic() < end:
            try:
                await llm.generate("openrouter_a/b", harness.PROMPT, max_tokens=8)
                answered += 1
            except ArenaError:
                failed += 1

    end = time.monotonic() + SECONDS
    clients = [AsyncClient(address, timeout=DEADLINE) for address in addresses]
    await asyncio.gather(
        *(ask(clients[n % len(clients)], ARRIVAL * n / CALLERS) for n in range(CALLERS))
    )
    for client in clients:
        await client.close()
    return answered, failed


async def find_delays() -> float:
    """The 99th percentile of how late this event loop is, in seconds, until it is cancelled."""
    delays = []
    try:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.05)
            delays.append(time.monotonic() - begun - 0.05)
    except asyncio.CancelledError:
        return sorted(delays)[len(delays) * 99 // 100]


def measure_all() -> dict[str, dict[str, float | None]]:
    """Measure all kinds at the same time, each in a process of its own."""
    command = [sys.executable, "-m", "bench.rates"]
    with ExitStack() as stack:
        children = {}
        for name in WAYS:
            child = subprocess.Popen(
                [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(child.wait)
            stack.callback(child.terminate)
            children[name] = child
        for child in children.values():
            if child.stdout is None or child.stdout.readline() != "ready\n":
                sys.exit("a kind of limit did not start")
        results = {}
        for child in children.values():
            print("go", file=child.stdin, flush=True)
        for name, child in children.items():
            output, _ = child.communicate()
            results[name] = json.loads(output)
        return results


def find_worst(results: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    """The worst value of each figure that has a goal."""
    worst = {}
    for goal in GOALS:
        name = goal.place[-1]
        found = [v for figures in results.values() if (v := figures[name]) is not None]
        worst[name] = max(found) if goal.sign == "<=" else min(found)
    return worst


def describe(name: str, figure: float | None) -> str:
    """A figure, with a mark if it misses its goal."""
    if figure is None:
        return ""
    goal = _GOALS.get(name)
    text = format_value(figure, goal.unit if goal else "")
    missed = goal and not is_reached(figure, goal.sign, goal.bound)
    return f"{text} (missed)" if missed else text


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(uvloop.run(measure(WAYS[sys.argv[1]]))))
        return
    results = measure_all()
    header = list(next(iter(results.values())))
    goals = ["goal"]
    for name in header:
        goal = _GOALS.get(name)
        goals.append(format_goal(goal.sign, goal.bound, goal.unit) if goal else "")
    rows = [[n, *(describe(k, v) for k, v in r.items())] for n, r in results.items()]
    title = f"{CALLERS} callers for each limit, {SECONDS:g} s"
    harness.print_table(title, ["limit", *header], [goals, *rows])
    harness.write_results("rates", GOALS, {"ways": results, "worst": find_worst(results)})


if __name__ == "__main__":
    main()
