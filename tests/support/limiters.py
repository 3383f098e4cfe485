"""A simulation of callers, a pacer, and a provider that limits calls, in virtual time."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.limiters import Limiter
from services.common.hosted.pace import Pacer, Sent


def usual_seconds(chance: random.Random) -> float:
    """How long a model takes: median 1 s, up to 60."""
    return min(60.0, max(0.2, chance.lognormvariate(0, 1)))


@dataclass
class Result:
    """Counts of calls. failed: not answered in time. granted: when calls were let in."""

    sent: int = 0
    answered: int = 0
    failed: int = 0
    granted: list[float] = field(default_factory=list)

    @property
    def requests_per_grant(self) -> float:
        return self.sent / max(1, len(self.granted))

    def count(self, begin: float, end: float) -> int:
        """How many calls were let in between two times."""
        return sum(begin <= time < end for time in self.granted)


class Simulation:
    """Callers that each ask again after each answer, with a deadline.

    seconds: how long it runs. hint: makes the provider's hint from the right one. workers: the
    processes that share the provider's limit. way_back: seconds that a refusal takes. stall: mean
    seconds of a pause of all workers' event loops, which pause a fifth of the time.
    """

    def __init__(
        self,
        limiter: Limiter,
        *,
        seconds: float = 120,
        callers: int = 1000,
        deadline: float = 120,
        takes: Callable[[random.Random], float] = usual_seconds,
        hint: Callable[[float], float] | None = None,
        workers: int = 1,
        max_rate: float = math.inf,
        way_back: tuple[float, float] = (0.01, 0.08),
        stall: float = 0.0,
        seed: int = 1,
    ) -> None:
        self._limiter, self._takes, self._hint = limiter, takes, hint
        self._seconds, self._callers, self._deadline = seconds, callers, deadline
        self._way_back, self._stall = way_back, stall
        self._awake = 0.0  # when the event loops continue
        self._chance = random.Random(seed)  # noqa: S311 - a simulation
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = itertools.count()
        self.pacers = [Pacer(0.0, 512, max_rate) for _ in range(workers)]
        self._lines: list[deque[float]] = [deque() for _ in range(workers)]
        self._timers = [math.inf] * workers
        self.result = Result()

    def run(self) -> Result:
        for caller in range(self._callers):
            self._at(0.0, self._ask, caller % len(self.pacers))
        if self._stall:
            self._at(0.3, self._stand_still)
        while self._events and self._events[0][0] < self._seconds:
            self._now, _, act, arguments = heapq.heappop(self._events)
            if self._now < self._awake and act in (self._tick, self._answer, self._refuse):
                self._at(self._awake, act, *arguments)
            else:
                act(*arguments)
        return self.result

    def _at(self, time: float, act: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (time, next(self._count), act, arguments))

    def _stand_still(self) -> None:
        self._awake = self._now + self._chance.expovariate(1 / self._stall)
        between = self._chance.expovariate(1 / (4 * self._stall))
        self._at(self._awake + between, self._stand_still)

    def _ask(self, worker: int) -> None:
        self._lines[worker].append(self._now + self._deadline)
        self._pump(worker)

    def _pump(self, worker: int) -> None:
        pacer, line, now = self.pacers[worker], self._lines[worker], self._now
        while line:
            if line[0] < now:
                line.popleft()
                self.result.failed += 1
                self._at(now + 1, self._ask, worker)
                continue
            due = pacer.next_send(now)
            if due > now + 1e-9:
                if due < self._timers[worker]:
                    self._timers[worker] = due
                    self._at(max(due, now + 1e-6), self._tick, worker)
                return
            deadline, sent = line.popleft(), pacer.send(now)
            self.result.sent += 1
            self._at(now + self._chance.uniform(0.018, 0.024), self._arrive, worker, deadline, sent)

    def _tick(self, worker: int) -> None:
        self._timers[worker] = math.inf
        self._pump(worker)

    def _arrive(self, worker: int, deadline: float, sent: Sent) -> None:
        if self._limiter.arrive(self._now):
            self.result.granted.append(self._now)
            self._at(self._now + self._takes(self._chance), self._answer, worker, sent)
            return
        hint = self._hint(self._limiter.hint(self._now)) if self._hint else None
        later = self._now + self._chance.uniform(*self._way_back)
        self._at(later, self._refuse, worker, deadline, sent, hint)

    def _answer(self, worker: int, sent: Sent) -> None:
        self._limiter.end()
        self.result.answered += 1
        self.pacers[worker].answer(sent, self._now, waiting=bool(self._lines[worker]))
        self._at(self._now, self._ask, worker)
        self._pump(worker)

    def _refuse(self, worker: int, deadline: float, sent: Sent, hint: float | None) -> None:
        self.pacers[worker].refuse(sent, self._now, hint)
        self._lines[worker].appendleft(deadline)
        self._pump(worker)
