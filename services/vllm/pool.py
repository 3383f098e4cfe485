"""The configured models: one engine each, started once, with its adapters."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
from vllm.utils.gc_utils import freeze_gc_heap
from vllm.v1.engine.exceptions import EngineDeadError

from arena_llm.types import Availability, Capability, ModelState
from services.common.errors import BackendError, ModelNotFound
from services.vllm.adapters import Adapter, load_adapters
from services.vllm.checks import check_adapter, check_files, failed_start
from services.vllm.config import VllmConfig, VllmModel
from services.vllm.engine import Engine
from services.vllm.metrics import Metrics
from services.vllm.starting import abandon_starts, start

log = structlog.get_logger()

_CAPABILITIES = (
    Capability.SCORE,
    Capability.CHOICES,
    Capability.JSON_SCHEMA,
    Capability.REGEX,
    Capability.LOGPROBS,
    Capability.SEED,
)

#: Seconds for which a failed start is answered as it was, before another try.
_FAILURE_HOLDS = 30.0


@dataclass(eq=False)
class Slot:
    """One configured engine and what has become of it.

    adapters: by model name, what vLLM is told of it, or why it cannot be used.
    """

    entry: VllmModel
    engine: Engine | None = None
    starting: asyncio.Task[None] | None = None
    error: BackendError | None = None
    failed_at: float = 0.0
    adapters: dict[str, Adapter] = field(default_factory=dict)


class EnginePool:
    """All configured engines. One event loop owns it; engines start in threads."""

    def __init__(self, config: VllmConfig, metrics: Metrics) -> None:
        self._config = config
        self._metrics = metrics
        self._slots = {entry.name: Slot(entry) for entry in config.models}
        self._bases = {
            model.name: slot
            for slot in self._slots.values()
            for model in (slot.entry, *slot.entry.lora)
        }
        # An engine takes its memory by what it sees as free.
        self._one_start = asyncio.Lock()
        self._dead: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watches: list[asyncio.Task[None]] = []
        self._folder = TemporaryDirectory(prefix="arena-vllm-")

    async def preload(self) -> None:
        """Start what is marked so."""
        for slot in self._slots.values():
            if slot.entry.preload:
                # It has been logged, and IsAvailable tells it.
                with suppress(BackendError):
                    await self._started(slot)

    async def dead(self) -> str:
        """Wait until an engine's core ends."""
        return await self._dead

    async def aclose(self) -> None:
        """Stop every engine."""
        for task in (*self._watches, *(slot.starting for slot in self._slots.values())):
            if task is not None:
                task.cancel()
        engines = [slot.engine for slot in self._slots.values() if slot.engine is not None]
        await asyncio.gather(*(asyncio.to_thread(engine.close) for engine in engines))
        abandon_starts()
        self._folder.cleanup()

    async def use(self, name: str) -> tuple[Engine, Any]:
        """The model's engine, started if need be, and its adapter or None."""
        slot = self._slot(name)
        engine = await self._started(slot)
        adapter = slot.adapters.get(name)
        if isinstance(adapter, BackendError):
            raise copy(adapter)
        return engine, adapter

    def availability(self, name: str) -> Availability:
        """The model's state, without touching it."""
        try:
            slot = self._slot(name)
            adapter = slot.adapters.get(name)
            if isinstance(adapter, BackendError):
                raise adapter
            if slot.engine is not None:
                return _running(slot.engine)
            if slot.starting is not None:
                detail = "its engine is starting; calls wait for it"
                return Availability(True, ModelState.LOADING, detail)
            if slot.error is not None:
                raise slot.error
            check_files(slot.entry)
            for lora in slot.entry.lora:
                if lora.name == name:
                    check_adapter(lora)
        except BackendError as error:
            return Availability(False, ModelState.MISCONFIGURED, error.message, reason=error.reason)
        return Availability(True, ModelState.NOT_LOADED, "the first call starts its engine")

    def context_length(self, name: str) -> int | None:
        """Tokens of prompt and completion together, once the engine runs."""
        engine = self._slot(name).engine
        return None if engine is None else engine.started.reader.context_length

    def capabilities(self, name: str) -> tuple[Capability, ...]:
        """What the model can do; whether it takes conversations shows when it runs."""
        slot = self._slot(name)
        reader = None if slot.engine is None else slot.engine.started.reader
        chat = reader is not None and reader.chat_template is not None
        return (
            *((Capability.CHAT,) if chat else ()),
            *_CAPABILITIES,
            *((Capability.REASONING,) if slot.entry.reasoning_parser else ()),
        )

    def _slot(self, name: str) -> Slot:
        """Raises ModelNotFound, which lists the models there are."""
        try:
            return self._bases[name]
        except KeyError:
            known = ", ".join(self._bases) or "none"
            raise ModelNotFound(
                f"{name!r} is not in configs/vllm_models.yaml; listed are: {known}", field="model"
            ) from None

    async def _started(self, slot: Slot) -> Engine:
        """Wait until the slot's engine runs; one start serves all who wait."""
        while slot.engine is None:
            if slot.starting is None:
                recent = time.monotonic() - slot.failed_at < _FAILURE_HOLDS
                if slot.error is not None and recent:
                    raise copy(slot.error)
                slot.starting = asyncio.create_task(self._start(slot))
                slot.starting.add_done_callback(_retrieve)
            # Shielded: a caller who leaves does not end the start for the others.
            await asyncio.shield(slot.starting)
        return slot.engine

    async def _start(self, slot: Slot) -> None:
        entry, began = slot.entry, time.monotonic()
        slot.error = None
        thread = ThreadPoolExecutor(1, f"engine {entry.name}")
        try:
            async with self._one_start:
                loop = asyncio.get_running_loop()
                root_cause = Path(self._folder.name) / entry.name.replace("/", "-")
                root_cause.unlink(missing_ok=True)
                started = await loop.run_in_executor(thread, start, entry, root_cause)
            engine = Engine(started, thread, self._config)
            watch = asyncio.create_task(engine.died())
            slot.adapters = await self._ready(entry, engine, watch)
            slot.engine = engine
            self._metrics.add(entry.name, started.registry, started.stats)
            self._watches.append(asyncio.create_task(self._tell_dead(entry.name, watch)))
            # Or the collector walks all of torch and vLLM again and again, for seconds at the end.
            freeze_gc_heap()
            log.info("started", model=entry.name, seconds=round(time.monotonic() - began, 1))
        except BackendError as error:
            log.error("start", model=entry.name, reason=error.message)
            thread.shutdown(wait=False)
            slot.error, slot.failed_at = copy(error), time.monotonic()
            raise
        finally:
            slot.starting = None

    async def _ready(
        self, entry: VllmModel, engine: Engine, died: asyncio.Task[None]
    ) -> dict[str, Adapter]:
        """Let the engine show that it can run, and load its adapters.

        Raises ModelMisconfigured where it dies of that.
        """
        making = asyncio.create_task(_make_ready(entry, engine))
        await asyncio.wait((making, died), return_when=asyncio.FIRST_COMPLETED)
        try:
            if not making.done():
                raise EngineDeadError
            return await making
        except Exception as error:
            making.cancel()
            died.cancel()
            await asyncio.to_thread(engine.close)
            root_cause = engine.started.root_cause
            raise failed_start(entry, "cannot run the model", error, root_cause) from error

    async def _tell_dead(self, name: str, died: asyncio.Task[None]) -> None:
        await died
        if not self._dead.done():
            self._dead.set_result(f"the engine of {name} has died")


async def _make_ready(entry: VllmModel, engine: Engine) -> dict[str, Adapter]:
    await engine.try_out()
    return await load_adapters(engine, entry)


def _running(engine: Engine) -> Availability:
    if engine.dead:
        detail = "its engine has died; the service starts anew"
        return Availability(
            False, ModelState.UNKNOWN, detail, reason="UPSTREAM_UNAVAILABLE", load=engine.load()
        )
    return Availability(True, ModelState.READY, "running", load=engine.load())


def _retrieve(task: asyncio.Task[None]) -> None:
    """Look at the error even if every caller has left; _start has logged it."""
    if not task.cancelled():
        task.exception()
