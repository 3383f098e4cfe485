"""Decides when a call may be sent to a provider: configured bounds, learned limits, fair order.

Retrier enters CallLimits before each attempt, and leaves its Place with the way the attempt ended.
A model has a queue of its own, because providers limit each model by itself. Waiting calls hold
no place of the service, so that a model that waits does not delay others.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from services.common.errors import BackendError, Overloaded, RateLimited
from services.common.hosted.breaker import BreakerOpen
from services.common.hosted.config import HostedConfig
from services.common.hosted.pace import Pacer, Sent
from services.common.line import Line, Waiter
from services.common.log import log
from services.common.tenant import has_share, make_overload

#: Model names come from callers, so this many queues are kept before idle ones are dropped.
_MAX_QUEUES = 4096
#: Seconds for which calls must wait without a break before the speed of a queue is estimated.
_BUSY = 60.0
#: A call is refused if even this share of its estimated wait exceeds its deadline.
_HOPE = 0.67
#: A call stops waiting at least this share of its time, or a second, before its deadline.
_MARGIN = 0.1
#: Seconds. A longer pause is written to the log.
_LONG_PAUSE = 5.0


class Allowance:
    """A configured rate, which is never exceeded: calls or tokens per minute."""

    def __init__(self, per_minute: float | None) -> None:
        self._seconds = 60 / per_minute if per_minute else 0.0  # of one call or token
        self.next = -math.inf  # when something may be spent

    def spend(self, amount: float, now: float) -> None:
        """Spend an amount. A negative amount gives back an excess."""
        if self._seconds:
            start = max(self.next, now) if amount > 0 else self.next
            self.next = start + amount * self._seconds


class Rates(NamedTuple):
    """The configured rates of a model, or of several together."""

    calls: Allowance
    tokens: Allowance

    @property
    def next(self) -> float:
        """When the next call may be sent."""
        return max(self.calls.next, self.tokens.next)


class Place:
    """One call that may be sent. Leave it exactly once."""

    __slots__ = ("_queue", "_sent", "_tokens")

    def __init__(self, queue: ModelQueue, sent: Sent, tokens: int) -> None:
        self._queue = queue
        self._sent = sent
        self._tokens = tokens

    def leave(self, error: BaseException | None = None, tokens: int | None = None) -> None:
        """Say how the attempt ended. tokens: what it used; None if that is not known."""
        self._queue.leave(self._sent, error, 0 if tokens is None else tokens - self._tokens)


class ModelQueue:
    """The calls to one model: those that wait, and the pacer that says when to send the next."""

    def __init__(self, limits: CallLimits, model: str, config: HostedConfig[Any]) -> None:
        entry = config.find_entry(model)
        places = (entry and entry.max_concurrency) or config.max_concurrency
        rpm = entry and entry.rpm
        now = limits.clock()
        self._limits = limits
        self._model = model
        self._pacer = Pacer(now, places, rpm / 60 if rpm else math.inf)
        own = Rates(Allowance(None), Allowance(entry and entry.tpm))  # the pacer bounds its calls
        self._rates = (own, *(limits.rates[place] for place in config.find_limits(model)))
        self._max_queue = config.max_queue
        self._longest = config.max_retry_after_seconds
        self._line: Line[Place] = Line()
        self.waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._answer_seconds = 0.0  # of a usual call
        self._busy_since = math.inf
        self._sent_while_busy = 0
        self._told: float | None = None  # the beginning of the last pause in the log
        self._words = ""  # of the last refusal
        self._hint = -math.inf  # until when the provider asks to wait

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self._pacer.in_flight

    @property
    def is_paused(self) -> bool:
        """Whether the provider refuses all calls."""
        return self._pacer.pause is not None

    async def enter(self, deadline: float | None, again: bool, tokens: int, tenant: str) -> Place:
        """Wait for the turn of a call. Arguments and errors as in `CallLimits.enter`."""
        now = self._limits.clock()
        if not self.waiting and not self._limits.is_full and self._due(now) <= now:
            return self._send(tokens, now)
        self._check(deadline, again, tenant, now)
        waiter: Waiter[Place] = Waiter(tokens)
        if again:
            self._line.add_again(waiter)
        else:
            self._line.add(waiter, tenant)
        if not self.waiting:
            self._busy_since, self._sent_while_busy = now, 0
        self.waiting += 1
        if deadline is not None:
            remaining = deadline - now
            # In time for an answer, or at least for the error to reach the caller.
            early = max(self._answer_seconds, min(_MARGIN * remaining, 1.0))
            waiter.timer = asyncio.get_running_loop().call_later(
                max(remaining - early, 0.0), self._expire, waiter
            )
        self.pump()
        try:
            return await waiter.future
        except asyncio.CancelledError as error:
            if waiter.future.done() and not waiter.future.cancelled():
                waiter.future.result().leave(error)  # its turn came in the same moment
            raise
        finally:
            if waiter.timer is not None:
                waiter.timer.cancel()
            if not waiter.future.done() or waiter.future.cancelled():
                self.waiting -= 1
                self.pump()

    def leave(self, sent: Sent, error: BaseException | None, more_tokens: int) -> None:
        """A call ended. more_tokens: that it used beyond the estimate."""
        now = self._limits.clock()
        if isinstance(error, RateLimited):
            self._words = error.message
            self._hint = now + min(error.retry_after or 0.0, self._longest)
            self._pacer.refuse(sent, now, error.retry_after)
        elif isinstance(error, asyncio.CancelledError | GeneratorExit | BreakerOpen):
            self._pacer.drop(sent, now)  # it was not sent, or its outcome stays unknown
        else:
            self._pacer.answer(sent, now, waiting=self.waiting > 0)
            if error is None:
                self._answer_seconds += 0.1 * (now - sent.at - self._answer_seconds)
        for rates in self._rates:
            rates.tokens.spend(more_tokens, now)
        self._limits.leave()
        self.pump()

    def pump(self) -> None:
        """Send the calls whose turn it is, and come again when the next one is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while (waiter := self._line.first()) is not None:
            now = self._limits.clock()
            self._tell(now)
            if (refusal := self._refusal(now)) is not None:
                self._end(waiter, refusal)
                continue
            if self._limits.is_full:
                self._limits.wait(self)
                return
            if (due := self._due(now)) > now:
                if not math.isinf(due):
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(due - now, self.pump)
                return
            self._line.pop()
            self.waiting -= 1
            self._sent_while_busy += 1
            waiter.future.set_result(self._send(waiter.tokens, now))

    def _due(self, now: float) -> float:
        """When the next call may be sent; infinity: not before another one ends."""
        due = self._pacer.next_send(now)
        for rates in self._rates:
            due = max(due, rates.next)
        return due

    def _send(self, tokens: int, now: float) -> Place:
        for rates in self._rates:
            rates.calls.spend(1, now)
            rates.tokens.spend(tokens, now)
        self._limits.enter_place()
        return Place(self, self._pacer.send(now), tokens)

    def _check(self, deadline: float | None, again: bool, tenant: str, now: float) -> None:
        """Raise the error of a call that is refused without a wait."""
        if (refusal := self._refusal(now)) is not None:
            raise refusal
        if again:
            return  # it comes first, however many wait
        if self.waiting >= self._max_queue:
            raise Overloaded(
                f"{self._model}: {self._pacer.in_flight} calls run and {self.waiting} wait",
                retry_after=1.0,
            )
        held = self._line.count(tenant)
        if tenant and not has_share(held, self.waiting, self._max_queue):
            raise make_overload(tenant, held)
        busy = now - self._busy_since
        if deadline is None or busy < _BUSY or not self._sent_while_busy:
            return
        wait = _HOPE * (self.waiting + 1) * busy / self._sent_while_busy
        if now + wait > deadline:
            raise RateLimited(
                f"{self._model}: {self.waiting} calls wait for its limits, longer than this call's "
                "deadline allows",
                retry_after=wait,
            )
        if busy > 2 * _BUSY:  # forget how fast it was long ago
            self._busy_since, self._sent_while_busy = now - _BUSY, self._sent_while_busy // 2

    def _refusal(self, now: float) -> RateLimited | None:
        """The error of all calls, if the provider has refused everything for too long.

        A call that comes when a probe is due has no error, because it is the probe.
        """
        pause = self._pacer.pause
        if pause is None or now - pause.since <= self._longest:
            return None
        if pause.probe is None and pause.due <= now:
            return None
        return RateLimited(
            f"{self._words} (all calls to {self._model} are refused)",
            retry_after=max(self._hint - now, 1.0 if pause.probe else pause.due - now),
        )

    def _expire(self, waiter: Waiter[Place]) -> None:
        """End the wait of a call whose deadline is near."""
        problem = f"{self._model}: no turn before the call's deadline, {self.waiting} calls wait"
        error: BackendError = Overloaded(problem, retry_after=1.0)
        if not math.isinf(self._pacer.rate):
            wait = max(self._hint - self._limits.clock(), 1.0)
            error = RateLimited(f"{problem} for its provider's limits", retry_after=wait)
        self._end(waiter, error)
        self.pump()

    def _end(self, waiter: Waiter[Place], error: BackendError) -> None:
        if not waiter.future.done():
            self.waiting -= 1
            waiter.future.set_exception(error)

    def _tell(self, now: float) -> None:
        """Write a long pause to the log, once."""
        pause = self._pacer.pause
        if pause is not None and now - pause.since > _LONG_PAUSE and self._told != pause.since:
            self._told = pause.since
            log.warning("a provider refuses all calls", model=self._model, waiting=self.waiting)


class CallLimits:
    """The queues of a service. All its methods must run on one event loop.

    clock: seconds; deadlines are on the same clock.
    """

    def __init__(
        self, config: HostedConfig[Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self._config = config
        self._places = config.max_concurrency
        #: Of the configuration's `limits`, in their order.
        self.rates = [Rates(Allowance(one.rpm), Allowance(one.tpm)) for one in config.limits]
        self._queues: dict[str, ModelQueue] = {}
        self._blocked: dict[ModelQueue, None] = {}  # queues that wait for a place, in turn

    async def enter(
        self,
        model: str,
        deadline: float | None = None,
        *,
        again: bool = False,
        tokens: int = 0,
        tenant: str = "",
    ) -> Place:
        """Wait until one call may be sent.

        deadline: on the clock. again: a retry of an admitted call, which joins even a full queue
        and comes first. tokens: an estimate of what it will use. tenant: who calls; tenants take
        turns.

        Raises Overloaded if the queue is full, and RateLimited if the provider's limits leave no
        place before the deadline.
        """
        return await self._queue(model).enter(deadline, again, tokens, tenant)

    @property
    def is_full(self) -> bool:
        """Whether as many calls are in flight as the service may have."""
        return self._places <= 0

    def enter_place(self) -> None:
        """Take one of the service's places."""
        self._places -= 1

    def wait(self, queue: ModelQueue) -> None:
        """Let a queue continue when a place is free."""
        self._blocked[queue] = None

    def leave(self) -> None:
        """Give a place back."""
        self._places += 1
        for _ in range(len(self._blocked)):
            if self.is_full:
                return
            queue = next(iter(self._blocked))
            del self._blocked[queue]
            queue.pump()

    def queues(self) -> Iterable[tuple[str, ModelQueue]]:
        """The queue of each model."""
        return self._queues.items()

    def _queue(self, model: str) -> ModelQueue:
        if (queue := self._queues.get(model)) is None:
            if len(self._queues) >= _MAX_QUEUES:
                self._queues = {n: q for n, q in self._queues.items() if not q.is_idle}
            queue = self._queues[model] = ModelQueue(self, model, self._config)
        return queue
