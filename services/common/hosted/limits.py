"""How many upstream calls at once: per model, and for the service."""

from __future__ import annotations

import asyncio
import math
import time
from types import TracebackType
from typing import Any

from services.common.errors import Overloaded, RateLimited
from services.common.hosted.config import HostedConfig


class Gate:
    """So many at once, so many waiting, first come first served.

    asyncio.Semaphore is FIFO and survives cancelled waiters; what it lacks is a bound.
    """

    def __init__(self, name: str, places: int, max_queue: int) -> None:
        self._name = name
        self._places = asyncio.Semaphore(places)
        self._max_queue = max_queue
        self.waiting = 0
        self.running = 0

    async def enter(self, again: bool) -> None:
        """Take a place. `again`: a further try of a call that was let in already.

        Raises Overloaded where the queue is full.
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
        """Give the place back."""
        self.running -= 1
        self._places.release()


class ModelGate(Gate):
    """A model's gate, which shuts for a while when the provider answers 429.

    It opens after `max_retry_after_seconds` at the latest, however long the provider asks
    for: the next call then finds out. Without a Retry-After the pause doubles with each 429
    in a row.
    """

    def __init__(self, config: HostedConfig[Any], model: str) -> None:
        entry = config.listed(model)
        places = (entry and entry.max_concurrency) or config.max_concurrency
        super().__init__(model, places, config.max_queue)
        self._config = config
        self._opens = -math.inf
        self._refuses = False  # rather than let calls wait for a pause that is not over then
        self._pause = config.backoff_seconds

    async def wait_open(self, deadline: float | None) -> None:
        """Wait out the pause; raises RateLimited where that is too long for the caller."""
        while (left := self._opens - time.monotonic()) > 0:
            if self._refuses or (deadline is not None and self._opens >= deadline):
                raise RateLimited(
                    f"{self._name}: its provider has asked for a pause", retry_after=left
                )
            await asyncio.sleep(left)

    def shut(self, retry_after: float | None) -> None:
        """Let nobody in for so long, up to the bound."""
        if retry_after is None:
            retry_after = self._pause
            self._pause = min(2 * self._pause, self._config.max_backoff_seconds)
        most = self._config.max_retry_after_seconds
        opens = time.monotonic() + min(retry_after, most)
        if opens >= self._opens:
            self._opens = opens
            self._refuses = retry_after > most

    def answered(self) -> None:
        """The provider has answered: its next 429 is the first of a row."""
        self._pause = self._config.backoff_seconds


class Limits:
    """The gates of a service. All its methods belong to one event loop."""

    def __init__(self, config: HostedConfig[Any]) -> None:
        self._config = config
        self._service = Gate("this service", config.max_concurrency, config.max_queue)
        self._models: dict[str, ModelGate] = {}

    def place(self, model: str, deadline: float | None = None, *, again: bool = False) -> _Place:
        """Hold a place for one upstream call, first of the model, then of the service.

        A RateLimited that leaves the block shuts the model's gate; the other models'
        stay open, and who waits at it holds no place of the service.

        Entering raises Overloaded (a queue is full), RateLimited (the model rests for
        longer than the caller's deadline, on time.monotonic's clock, allows).
        """
        return _Place(self._gate(model), self._service, deadline, again)

    def _gate(self, model: str) -> ModelGate:
        if (gate := self._models.get(model)) is None:
            if len(self._models) >= 4096:  # names come from callers: forget the idle ones
                self._models = {n: g for n, g in self._models.items() if g.waiting or g.running}
            gate = self._models[model] = ModelGate(self._config, model)
        return gate


class _Place:
    """A place at both gates. A class, because it is around every try: @asynccontextmanager
    costs three times this."""

    __slots__ = ("_again", "_deadline", "_model", "_service")

    def __init__(self, model: ModelGate, service: Gate, deadline: float | None, again: bool):
        self._model = model
        self._service = service
        self._deadline = deadline
        self._again = again

    async def __aenter__(self) -> None:
        await self._model.enter(self._again)
        try:
            await self._model.wait_open(self._deadline)
            await self._service.enter(self._again)
        except BaseException:
            self._model.leave()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._service.leave()
        if error is None:
            self._model.answered()
        elif isinstance(error, RateLimited):
            self._model.shut(error.retry_after)
        self._model.leave()
