"""The loaded models: each loaded once, on first use, within a memory budget."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import structlog
import torch

from arena_llm.types import Availability, Capability, ModelState
from services.common.errors import BackendError, ModelMisconfigured, Overloaded
from services.common.local.backend import CAPABILITIES
from services.common.local.slot import Slot, find
from services.hf.checkpoint import in_hub_cache, locate, weight_bytes
from services.hf.config import HfConfig, HfModel
from services.hf.engine import Engine, Limits
from services.hf.loading import LoadedModel, load
from services.hf.tuning import is_lost, release_memory

log = structlog.get_logger()

#: Seconds after a failure in which calls get its error; then a call loads the model again.
_FAILURE_HOLDS = 5.0


@dataclass(frozen=True)
class Running:
    """A loaded model, its engine, and the thread that prepares its requests."""

    model: LoadedModel
    engine: Engine
    tokenizing: ThreadPoolExecutor


class HfSlot(Slot[HfModel, Running]):
    """A model that can be dropped again. size: bytes of its weights, while it is loaded."""

    used_at: float = 0.0
    users: int = 0
    size: int = 0


class ModelPool:
    """All configured models. One event loop owns it; loading runs in threads."""

    def __init__(
        self, config: HfConfig, device: torch.device, on_lost: Callable[[str], None]
    ) -> None:
        """on_lost: called with the reason when this process can no longer use the device."""
        self._config = config
        self._device = device
        self._on_lost = on_lost
        self._slots = {entry.name: HfSlot(entry) for entry in config.models}
        # One at a time: two loads at once would each see the other's memory as free.
        self._one_load = asyncio.Lock()

    def slot(self, name: str) -> HfSlot:
        """Raises ModelNotFound, which lists the models there are."""
        return find(self._slots, name, "configs/hf_models.yaml")

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Running]:
        """The running model, loaded if need be; it is not dropped meanwhile."""
        slot = self.slot(name)
        slot.users += 1
        try:
            slot.used_at = time.monotonic()
            yield await self._loaded(slot)
        finally:
            slot.used_at = time.monotonic()
            slot.users -= 1

    async def preload(self) -> None:
        """Load the models that are marked `preload`."""
        for slot in self._slots.values():
            if slot.entry.preload:
                # It has been logged, and IsAvailable reports it.
                with suppress(BackendError):
                    await self._loaded(slot)

    async def aclose(self) -> None:
        """Drop every model."""
        for slot in self._slots.values():
            slot.cancel()
            if slot.running is not None:
                await self._drop(slot)

    def availability(self, name: str) -> Availability:
        """The model's state, without touching it."""
        slot = self.slot(name)
        if slot.running is not None:
            load_now = slot.running.engine.load()
            return Availability(True, ModelState.READY, "loaded", load=load_now)
        return slot.availability(partial(_first_call, slot.entry))

    def context_length(self, name: str) -> int | None:
        """The model's context length, once it is known."""
        slot = self.slot(name)
        if slot.running is not None:
            return slot.running.model.reader.context_length
        return slot.entry.context_length

    def capabilities(self, name: str) -> tuple[Capability, ...]:
        """What the model can do; whether it takes conversations shows when it is loaded."""
        running = self.slot(name).running
        chat = running is not None and running.model.reader.chat
        return (*((Capability.CHAT,) if chat else ()), *CAPABILITIES)

    async def _loaded(self, slot: HfSlot) -> Running:
        return await slot.loaded(partial(self._load, slot), _FAILURE_HOLDS)

    async def _load(self, slot: HfSlot) -> Running:
        async with self._one_load:
            folder = await asyncio.to_thread(locate, slot.entry)
            await self._make_room(slot, weight_bytes(folder))
            model = await asyncio.to_thread(
                load, slot.entry, folder, self._device, self._config.prefill_tokens
            )
            # The files' size was an estimate: float32 may take twice as much.
            await self._make_room(slot, model.size)
            slot.size = model.size
            return self._run(slot, model)

    def _run(self, slot: HfSlot, model: LoadedModel) -> Running:
        limits = Limits(
            max_batch=self._config.max_batch,
            max_waiting=self._config.max_waiting,
            max_cache_tokens=self._config.max_cache_tokens,
            prefill_tokens=self._config.prefill_tokens,
        )
        loop = asyncio.get_running_loop()

        def on_dead(error: BackendError) -> None:
            with suppress(RuntimeError):  # at the very end the loop is closed
                loop.call_soon_threadsafe(self._died, slot, running, error)

        engine = Engine(model.name, model.forward, limits, model.test_prompt, on_dead)
        running = Running(model, engine, ThreadPoolExecutor(1, f"tokenize {model.name}"))
        return running

    def _died(self, slot: HfSlot, running: Running, error: BackendError) -> None:
        """Make the end of a model's engine the model's state, until a call loads it again."""
        log.error("died", model=slot.entry.name, reason=error.message)
        if slot.running is running:  # it is not being dropped
            slot.end(error)
            slot.size = 0
            self._clearing = asyncio.create_task(self._clear(running))

    async def _clear(self, running: Running) -> None:
        await _stop(running)
        del running
        _release_memory()
        if await asyncio.to_thread(is_lost, self._device):
            self._on_lost(f"this process can no longer use {self._device}")

    async def _make_room(self, slot: HfSlot, needed: int) -> None:
        """Drop idle models, least recently used first, until `needed` bytes fit.

        Raises ModelMisconfigured where the model alone passes the budget, Overloaded
        where all others are in use.
        """
        if self._config.memory_budget_gb is None:
            return
        budget = int(self._config.memory_budget_gb * 1e9)
        if needed > budget:
            raise ModelMisconfigured(
                f"{slot.entry.name} needs {needed / 1e9:.2f} GB, over memory_budget_gb of "
                f"{self._config.memory_budget_gb} in configs/hf_models.yaml"
            )
        others = [other for other in self._slots.values() if other is not slot]
        while needed + sum(other.size for other in others) > budget:
            # Looked up each time: while one was dropped, another may have got a call.
            idle = [other for other in others if other.running is not None and not other.users]
            if not idle:
                raise Overloaded(
                    f"no memory for {slot.entry.name}: the other loaded models are in use",
                    retry_after=5.0,
                )
            await self._drop(min(idle, key=lambda other: other.used_at))

    async def _drop(self, slot: HfSlot) -> None:
        running, slot.running, slot.size = slot.running, None, 0
        if running is not None:
            await _stop(running)
            del running
            _release_memory()
            log.info("dropped", model=slot.entry.name)


async def _stop(running: Running) -> None:
    running.tokenizing.shutdown(wait=False)
    await asyncio.to_thread(running.engine.close)


def _release_memory() -> None:
    gc.collect()
    release_memory()


def _first_call(entry: HfModel) -> str:
    """What the first call will do. Raises BackendError where the model's folder is wrong."""
    if entry.model_path is not None:
        locate(entry)
    elif not in_hub_cache(entry):
        return f"the first call fetches {entry.hub_repo} from the model hub"
    return "the first call loads it"
