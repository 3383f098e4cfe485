"""The configured models of a local service. Each is loaded once, by its first call."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

from arena_llm.types import (
    Availability,
    Completion,
    CountRequest,
    Delta,
    EngineLoad,
    GenerationRequest,
    Modality,
    Model,
    ModelState,
    Scoring,
    ScoringRequest,
    ServedBy,
    TokenCount,
)
from services.common.config import ConfigError, ModelEntry
from services.common.errors import BackendError, ModelMisconfigured, ModelNotFound, Overloaded
from services.common.local.features import Features
from services.common.local.request import PromptReader
from services.common.local.sampling import describe_defaults
from services.common.log import log


class LocalEngine(Protocol):
    """A loaded model that runs requests."""

    @property
    def reader(self) -> PromptReader:
        """Turns the model's requests into tokens."""

    @property
    def served_by(self) -> ServedBy:
        """What replies say about the model: its engine, precision and revision."""

    def availability(self, model: str) -> Availability:
        """The state of the model, with the engine's load."""

    def run(
        self, request: GenerationRequest, *, stream: bool
    ) -> AsyncGenerator[Delta | Completion, None]:
        """Yield deltas, then the completion. Closing the generator stops the generation.

        stream: False if the caller ignores the deltas, so that the engine may leave them out.
        """

    async def score(self, request: ScoringRequest) -> Scoring:
        """The log-probability of each continuation."""

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        """The number of the input's tokens."""


E = TypeVar("E", bound=ModelEntry)
R = TypeVar("R", bound=LocalEngine)


class ModelSlot(Generic[E, R]):
    """A configured model that is loaded on first use, and its state. One event loop owns it.

    path: the configuration file, for errors. running: the loaded model; None while it is not
    loaded. error: why the last load failed, or why the running model ended. users: calls that
    use it now. used_at: time.monotonic() of its last use.
    """

    def __init__(self, entry: E, path: Path) -> None:
        self.entry = entry
        self.path = path
        self.running: R | None = None
        self.error: BackendError | None = None
        self.users = 0
        self.used_at = 0.0
        self._failed_at = 0.0
        self._loading: asyncio.Task[None] | None = None

    async def get_or_load(self, load: Callable[[], Awaitable[R]], hold_seconds: float) -> R:
        """Return the running model; load it first if necessary. Waiting calls share one load.

        hold_seconds: for this long after a failure, raise `error` instead of loading again.
        Raises what `load` raises.
        """
        while self.running is None:
            if self._loading is None:
                recent = time.monotonic() - self._failed_at < hold_seconds
                if self.error is not None and recent:
                    raise copy(self.error)
                self._loading = asyncio.create_task(self._load(load))
                self._loading.add_done_callback(_retrieve)
            # Shielded: a caller who leaves does not end the load for the others.
            await asyncio.shield(self._loading)
        return self.running

    def end(self, error: BackendError) -> None:
        """Record that the running model has ended. A later call loads it again."""
        self.running = None
        # A copy has no traceback, whose frames would keep the weights in memory.
        self.error, self._failed_at = copy(error), time.monotonic()

    def cancel(self) -> None:
        """Cancel a load in progress."""
        if self._loading is not None:
            self._loading.cancel()

    def availability(self, describe_first_call: Callable[[], str]) -> Availability:
        """The state of a model that is not running.

        describe_first_call: checks the model's files and says what its first call will do.
        """
        if self._loading is not None:
            return Availability(True, ModelState.LOADING, "being loaded; calls wait for it")
        if self.error is not None:
            return misconfigured(self.error)
        try:
            with self._backend_errors():
                return Availability(True, ModelState.NOT_LOADED, describe_first_call())
        except BackendError as error:
            return misconfigured(error)

    async def _load(self, load: Callable[[], Awaitable[R]]) -> None:
        began, self.error = time.monotonic(), None
        try:
            with self._backend_errors():
                self.running = await load()
            seconds = round(time.monotonic() - began, 1)
            log.info("loaded", model=self.entry.name, seconds=seconds)
        except BackendError as error:
            log.error("load", model=self.entry.name, reason=error.message)
            if not isinstance(error, Overloaded):  # an overload is no fault of the model
                self.end(error)
            raise
        finally:
            self._loading = None

    @contextmanager
    def _backend_errors(self) -> Iterator[None]:
        """Raise every error as a BackendError, so that no model's files can end the service."""
        try:
            yield
        except ModelMisconfigured as error:
            raise name_file(error, self.path) from error
        except BackendError:
            raise
        except Exception as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            wrong = ModelMisconfigured(f"{self.entry.name} cannot be loaded: {why}")
            raise name_file(wrong, self.path) from error


class ModelPool(ABC, Generic[E, R]):
    """All configured models. One event loop owns it.

    A subclass loads and unloads models; it may add a memory budget or further model names.
    """

    #: Seconds after a failed load in which calls get its error; a later call loads again.
    failure_hold_seconds: ClassVar[float]
    #: Whether `_unload` can be called while the service runs.
    unloads: ClassVar[bool] = False

    def __init__(self, entries: Sequence[E], path: Path, default_max_tokens: int) -> None:
        """path: the configuration file, for errors."""
        self._path = path
        self._default_max_tokens = default_max_tokens
        self._slots = [ModelSlot[E, R](entry, path) for entry in entries]
        self._by_name = {
            name: slot for slot in self._slots for name in self._model_names(slot.entry)
        }
        self._dropping: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def reconfigure(self, entries: Sequence[E]) -> None:
        """Serve these models: an entry that stays the same keeps its model, others are unloaded.

        Calls that run end with the model that they have. Raises ConfigError, and changes nothing,
        if a model that runs would have to be unloaded and cannot be.
        """
        kept = {slot.entry.name: slot for slot in self._slots if slot.entry in entries}
        gone = [slot for slot in self._slots if slot is not kept.get(slot.entry.name)]
        for slot in gone:
            if slot.running is not None and not self.unloads:
                raise ConfigError(
                    f"{self._path}: models: {slot.entry.name} is loaded, and its engine ends with "
                    "the service only: restart the service to change or remove it"
                )
        slots = [kept.get(entry.name) or ModelSlot[E, R](entry, self._path) for entry in entries]
        self._by_name = {name: slot for slot in slots for name in self._model_names(slot.entry)}
        self._slots = [*slots, *gone]
        for slot in gone:
            task = asyncio.create_task(self._drop(slot))
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)

    async def _drop(self, slot: ModelSlot[E, R]) -> None:
        """Unload a model that is no longer configured, after its calls."""
        slot.cancel()
        while slot.users:  # noqa: ASYNC110 - seldom, so that no call pays for an event
            await asyncio.sleep(0.1)
        await self._unload(slot)
        self._slots.remove(slot)

    def slot(self, name: str) -> ModelSlot[E, R]:
        """The slot of a model. Raises ModelNotFound, which lists the configured models."""
        try:
            return self._by_name[name]
        except KeyError:
            names = ", ".join(self._by_name) or "none"
            raise ModelNotFound(
                f"{name!r} is not in {self._path}; it lists: {names}", field="model"
            ) from None

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[R]:
        """The running model, loaded first if necessary. It stays loaded inside the block."""
        slot = self.slot(name)
        slot.users += 1
        try:
            slot.used_at = time.monotonic()
            yield await self._get_or_load(slot)
        finally:
            slot.used_at = time.monotonic()
            slot.users -= 1

    async def preload(self) -> None:
        """Load the models whose entry says `preload`, one after the other."""
        for slot in self._slots:
            if self._preloads(slot.entry):
                # Suppressed, because it is logged and IsAvailable reports it.
                with suppress(BackendError):
                    await self._get_or_load(slot)

    async def failed(self) -> str:
        """Wait until the service has to restart. Returns the reason."""
        return await self._failure

    def fail(self, reason: str) -> None:
        """Make the service restart."""
        if not self._failure.done():
            self._failure.set_result(reason)

    async def aclose(self) -> None:
        """Cancel loads and unload every model."""
        for task in self._dropping:
            task.cancel()
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*map(self._unload, self._slots))

    def availability(self, name: str) -> Availability:
        """The state of a model, without loading it. Raises ModelNotFound."""
        slot = self.slot(name)
        if slot.running is not None:
            return slot.running.availability(name)
        return slot.availability(partial(self._describe_first_call, slot.entry, name))

    def loads(self) -> Iterator[tuple[str, EngineLoad]]:
        """The load of each engine, with the name of its model."""
        for slot in self._slots:
            if slot.running is not None:
                name = slot.entry.name
                if (load := slot.running.availability(name).load) is not None:
                    yield name, load

    def must_load(self, name: str) -> bool:
        """True if a call of this model waits until it is loaded."""
        slot = self._by_name.get(name)
        return slot is not None and slot.running is None

    def describe(self, model: ModelEntry) -> Model:
        """The model as ListModels shows it. Some facts are known once it is loaded.

        model: the entry of a slot, or a further model of its engine.
        """
        slot = self.slot(model.name)
        entry, running = slot.entry, slot.running
        features = self._configured_features(entry) if running is None else running.reader.features
        described = Model(
            model.name,
            description=model.description,
            context_length=self._configured_context_length(entry),
            input_modalities=(Modality.TEXT, Modality.IMAGE)[: 1 + features.images],
            capabilities=features.capabilities,
            reasoning_efforts=tuple(features.efforts),
            defaults=describe_defaults(self._max_tokens(entry)),
        )
        if running is None:
            return described
        return replace(
            described,
            context_length=running.reader.context_length,
            supported_fields=features.fields,
            supported_fields_known=True,
            model_revision=running.served_by.model_revision,
            precision=running.served_by.precision,
        )

    async def _get_or_load(self, slot: ModelSlot[E, R]) -> R:
        return await slot.get_or_load(partial(self._load, slot), self.failure_hold_seconds)

    @abstractmethod
    async def _load(self, slot: ModelSlot[E, R]) -> R:
        """Load the slot's model. Raises BackendError for a problem with its entry or files."""

    @abstractmethod
    async def _unload(self, slot: ModelSlot[E, R]) -> None:
        """Stop the slot's model and free its memory; do nothing if it is not running."""

    @abstractmethod
    def _preloads(self, entry: E) -> bool:
        """True if the model is loaded when the service starts."""

    @abstractmethod
    def _describe_first_call(self, entry: E, name: str) -> str:
        """What the first call will do. Raises ModelMisconfigured if files are missing."""

    def _model_names(self, entry: E) -> Sequence[str]:
        """The names of the models that the entry's engine serves."""
        return [entry.name]

    def _max_tokens(self, entry: E) -> int:
        """The max_tokens of a request that sets none."""
        return self._default_max_tokens

    def _configured_context_length(self, entry: E) -> int | None:
        """The context length that the entry sets, if any."""
        return None

    def _configured_features(self, entry: E) -> Features:
        """What the entry says about a model that is not loaded; its template is not known."""
        return Features()


def misconfigured(error: BackendError) -> Availability:
    """The state of a model that cannot be used because of `error`."""
    return Availability(False, ModelState.MISCONFIGURED, error.message, reason=error.reason)


def name_file(error: ModelMisconfigured, path: Path) -> ModelMisconfigured:
    """The error, with the configuration file that has the model's entry."""
    return ModelMisconfigured(f"{error.message} (configured in {path})")


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve the error even if every caller has left, so that asyncio does not log it again."""
    if not task.cancelled():
        task.exception()
