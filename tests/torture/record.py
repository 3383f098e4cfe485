"""What a kind of torture has tried, and how each try ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from arena_llm import ArenaError
from arena_llm.v1 import error_pb2

T = TypeVar("T")

_PREFIX = "ERROR_REASON_"
#: Reasons of the contract.
REASONS = frozenset(
    name.removeprefix(_PREFIX) for name in error_pb2.ErrorReason.DESCRIPTOR.values_by_name
)
#: Reasons that only a bug causes. No try may end with them.
BUG = "INTERNAL"

#: Problems of one kind that are kept; further ones are only counted.
_MOST = 25


class Record:
    """The tries of one kind. seed: with it the same kind makes the same tries.

    answers, errors: counts of right outcomes. wrong, hung: counts of others. names: tries by name.
    """

    def __init__(self, kind: str, seed: int) -> None:
        self.kind = kind
        self.seed = seed
        self.answers = self.errors = self.wrong = self.hung = 0
        self.names: Counter[str] = Counter()
        self.problems: list[str] = []
        self.seconds = 0.0
        self.round = 0

    def dice(self, purpose: str) -> random.Random:
        """Return a random generator for one purpose, so that tasks do not disturb each other."""
        return random.Random(f"{self.kind} {self.seed} {self.round} {purpose}")  # noqa: S311 - no secret

    def describe(self) -> str:
        """The outcomes until now, in a line."""
        tries = self.answers + self.errors + self.wrong + self.hung
        return f"{self.kind}: {tries} tries, {self.wrong} wrong, {self.hung} hangs"

    def answered(self, name: str) -> None:
        """Note a right answer."""
        self.names[name] += 1
        self.answers += 1

    def refused(self, name: str) -> None:
        """Note a right error."""
        self.names[name] += 1
        self.errors += 1

    def fail(self, name: str, problem: str) -> None:
        """Note a wrong outcome."""
        self.names[name] += 1
        self.wrong += 1
        self._keep(f"WRONG {name}: {problem}")

    def hang(self, name: str, seconds: float) -> None:
        """Note a try without an outcome."""
        self.names[name] += 1
        self.hung += 1
        self._keep(f"HANG {name}: no outcome in {seconds:g} s")

    def _keep(self, problem: str) -> None:
        if len(self.problems) < _MOST:
            self.problems.append(problem[:600])

    def check_error(self, name: str, error: ArenaError, allowed: frozenset[str] = REASONS) -> bool:
        """Note an error: right if the contract has it, it is allowed, and it says something."""
        problem = find_problem(error)
        if not problem and error.reason not in allowed:
            problem = f"not one of {', '.join(sorted(allowed))}"
        if problem:
            self.fail(name, f"{problem}: {error.code} {error}")
            return False
        self.refused(name)
        return True


def find_problem(error: ArenaError) -> str:
    """Return what is wrong with an error; empty if it is one of the contract."""
    if error.reason not in REASONS:
        return "an error without a reason of the contract"
    if error.reason == BUG:
        return "an error that only a bug gives"
    if not error.message.strip() or "Traceback" in error.message:
        return "an error whose message says nothing to its reader"
    if error.reason == "INVALID_REQUEST" and not (
        error.field
        or error.message.startswith(("the request ", "the bytes "))
        or "upstream_status" in error.metadata
    ):
        return "an error that does not name its field"
    return ""


async def bounded(record: Record, name: str, seconds: float, trial: Awaitable[T]) -> T | None:
    """Await a try; note a hang and return None if it has no outcome in time."""
    try:
        async with asyncio.timeout(seconds):
            return await trial
    except TimeoutError:
        record.hang(name, seconds)
        return None


async def repeat(
    record: Record, seconds: float, width: int, trial: Callable[[random.Random], Awaitable[None]]
) -> None:
    """Make one try after another, `width` at the same time, until the time is over.

    A bug of the torture itself is a wrong outcome, so that it cannot pass for a quiet run.
    """
    end = time.monotonic() + seconds

    async def work(number: int) -> None:
        dice = record.dice(f"task {number}")
        while time.monotonic() < end:
            try:
                await trial(dice)
            except Exception as error:
                record.fail("the torture itself", f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        for number in range(width):
            tasks.create_task(work(number))
