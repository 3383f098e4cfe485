"""One configured model, which its first call loads, and its state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Generic, TypeVar

import structlog

from arena_llm.types import Availability, ModelState
from services.common.config import ModelEntry
from services.common.errors import BackendError, ModelMisconfigured, ModelNotFound, Overloaded

log = structlog.get_logger()

E = TypeVar("E", bound=ModelEntry)
R = TypeVar("R")


class Slot(Generic[E, R]):
    """A model's entry and its state. One event loop owns it.

    running: what the model's calls use; None while it is not loaded. error: why the last load
    failed, or why what ran has ended.
    """

    def __init__(self, entry: E) -> None:
        self.entry = entry
        self.running: R | None = None
        self.error: BackendError | None = None
        self._failed_at = 0.0
        self._loading: asyncio.Task[None] | None = None

    async def loaded(self, load: Callable[[], Awaitable[R]], failure_holds: float) -> R:
        """Return what runs, and load it first if necessary. Waiting calls share one load.

        failure_holds: seconds for which `error` is raised before the next load. Raises what
        `load` raises.
        """
        while self.running is None:
            if self._loading is None:
                recent = time.monotonic() - self._failed_at < failure_holds
                if self.error is not None and recent:
                    raise copy(self.error)
                self._loading = asyncio.create_task(self._load(load))
                self._loading.add_done_callback(_retrieve)
            # Shielded: a caller who leaves does not end the load for the others.
            await asyncio.shield(self._loading)
        return self.running

    def end(self, error: BackendError) -> None:
        """Note that what ran has ended. A later call loads it again, as after a failed load."""
        self.running = None
        # A copy has no traceback, whose frames would keep the weights in memory.
        self.error, self._failed_at = copy(error), time.monotonic()

    def cancel(self) -> None:
        """End a load that is under way."""
        if self._loading is not None:
            self._loading.cancel()

    def availability(self, look: Callable[[], str]) -> Availability:
        """The state of a model that does not run.

        look: checks the model's files, and says what its first call will do.
        """
        if self._loading is not None:
            return Availability(True, ModelState.LOADING, "being loaded; calls wait for it")
        if self.error is not None:
            return misconfigured(self.error)
        try:
            with _backend_errors(self.entry.name):
                return Availability(True, ModelState.NOT_LOADED, look())
        except BackendError as error:
            return misconfigured(error)

    async def _load(self, load: Callable[[], Awaitable[R]]) -> None:
        began, self.error = time.monotonic(), None
        try:
            with _backend_errors(self.entry.name):
                self.running = await load()
            seconds = round(time.monotonic() - began, 1)
            log.info("loaded", model=self.entry.name, seconds=seconds)
        except BackendError as error:
            log.error("load", model=self.entry.name, reason=error.message)
            if not isinstance(error, Overloaded):  # which says nothing of the model
                self.end(error)
            raise
        finally:
            self._loading = None


S = TypeVar("S", bound=Slot)  # type: ignore[type-arg] # of any entry, running anything


def find(slots: Mapping[str, S], name: str, file: str) -> S:
    """A model's slot. Raises ModelNotFound, which lists the models of the file."""
    try:
        return slots[name]
    except KeyError:
        known = ", ".join(slots) or "none"
        raise ModelNotFound(
            f"{name!r} is not in {file}; listed are: {known}", field="model"
        ) from None


def misconfigured(error: BackendError) -> Availability:
    """An error as the state of a model that cannot be used."""
    return Availability(False, ModelState.MISCONFIGURED, error.message, reason=error.reason)


@contextmanager
def _backend_errors(name: str) -> Iterator[None]:
    """Raise every error as a BackendError, so that no model's files can end the service."""
    try:
        yield
    except BackendError:
        raise
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ModelMisconfigured(f"{name} cannot be loaded: {why}") from error


def _retrieve(task: asyncio.Task[None]) -> None:
    """Look at the error even if every caller has left; _load has logged it."""
    if not task.cancelled():
        task.exception()
