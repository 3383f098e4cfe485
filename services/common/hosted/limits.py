"""Limits on concurrent provider calls: per model and for the whole service.

Retrier enters CallLimits before each attempt and reports how the attempt ended when it leaves
its Place. All decisions about when a call may be sent belong in this file.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from services.common.errors import Overloaded, RateLimited
from services.common.hosted.config import HostedConfig

#: Model names come from callers, so this many gates are kept before idle ones are dropped.
_MAX_GATES = 4096


class Gate:
    """A FIFO semaphore with a bounded queue.

    asyncio.Semaphore is FIFO and handles cancelled waiters, but its queue has no bound.
    """

    def __init__(self, name: str, places: int, max_queue: int) -> None:
        self._name = name
        self._places = asyncio.Semaphore(places)
        self._max_queue = max_queue
        self.waiting = 0
        self.running = 0

    async def enter(self, again: bool) -> None:
        """Wait for a place. Raises Overloaded if the queue is full.

        again: a retry of an admitted call, which joins even a full queue.
        """
        if self._places.locked():
            if self.waiting >= self._max_queue and not again:
                raise Overloaded(
                    f"{self._name}: {self.running} calls run and {self.waiting} wait",
                    retry_after=1.0,
                )
            self.waiting += 1
            try:
                await self._places.acquire()
            finally:
                self.waiting -= 1
        else:
            await self._places.acquire()
        self.running += 1

    def leave(self) -> None:
        """Release the place."""
        self.running -= 1
        self._places.release()


class ModelGate(Gate):
    """A model's gate, which closes for a while when the provider answers 429.

    It opens after `max_retry_after_seconds` at the latest, even if the provider's Retry-After
    is longer: the next call then shows whether the provider answers again. Without a
    Retry-After, the pause doubles with each 429 in a row.
    """

    def __init__(self, config: HostedConfig[Any], model: str) -> None:
        entry = config.find_entry(model)
        places = (entry and entry.max_concurrency) or config.max_concurrency
        super().__init__(model, places, config.max_queue)
        self._config = config
        self._opens = -math.inf  # on time.monotonic's clock
        self._refuses = False  # the provider requested a longer pause, so calls do not wait
        self._pause = config.backoff_seconds

    async def wait_open(self, deadline: float | None) -> None:
        """Wait until the gate opens. Raises RateLimited if that is past the deadline."""
        while (remaining := self._opens - time.monotonic()) > 0:
            if self._refuses or (deadline is not None and self._opens >= deadline):
                raise RateLimited(
                    f"{self._name}: its provider has requested a pause", retry_after=remaining
                )
            await asyncio.sleep(remaining)

    def close(self, retry_after: float | None) -> None:
        """Admit no call for this many seconds, at most `max_retry_after_seconds`."""
        if retry_after is None:
            retry_after = self._pause
            self._pause = min(2 * self._pause, self._config.max_backoff_seconds)
        longest = self._config.max_retry_after_seconds
        opens = time.monotonic() + min(retry_after, longest)
        if opens >= self._opens:
            self._opens = opens
            self._refuses = retry_after > longest

    def reset_pause(self) -> None:
        """Start with the shortest pause again, because the provider has answered."""
        self._pause = self._config.backoff_seconds


class Place:
    """One call's place at both gates. Leave it exactly once."""

    __slots__ = ("_model", "_service")

    def __init__(self, model: ModelGate, service: Gate) -> None:
        self._model = model
        self._service = service

    def leave(self, error: BaseException | None = None) -> None:
        """Release the place. error: how the call ended; a RateLimited closes the model's gate."""
        self._service.leave()
        if error is None:
            self._model.reset_pause()
        elif isinstance(error, RateLimited):
            self._model.close(error.retry_after)
        self._model.leave()


class CallLimits:
    """The gates of a service. All its methods must run on one event loop."""

    def __init__(self, config: HostedConfig[Any]) -> None:
        self._config = config
        self._service = Gate("this service", config.max_concurrency, config.max_queue)
        self._models: dict[str, ModelGate] = {}

    async def enter(
        self, model: str, deadline: float | None = None, *, again: bool = False
    ) -> Place:
        """Wait for a place for one call, first at the model's gate, then at the service's.

        A call that waits for a closed model holds no place of the service, so other models
        are not delayed.

        deadline: on time.monotonic's clock. again: a retry of an admitted call.
        Raises Overloaded if a queue is full, and RateLimited if the model's gate stays closed
        past the deadline.
        """
        gate = self._gate(model)
        await gate.enter(again)
        try:
            await gate.wait_open(deadline)
            await self._service.enter(again)
        except BaseException:
            gate.leave()
            raise
        return Place(gate, self._service)

    def _gate(self, model: str) -> ModelGate:
        if (gate := self._models.get(model)) is None:
            if len(self._models) >= _MAX_GATES:
                self._models = {n: g for n, g in self._models.items() if g.waiting or g.running}
            gate = self._models[model] = ModelGate(self._config, model)
        return gate
