"""The configured models: one engine each, started once, with its adapters."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vllm.utils.gc_utils import freeze_gc_heap

from arena_llm.types import Availability, Capability, ModelState
from services.common.errors import BackendError
from services.common.local.backend import CAPABILITIES
from services.common.local.slot import Slot, find
from services.vllm.adapters import Adapter, load_adapters
from services.vllm.checks import check_adapter, check_files, failed_start
from services.vllm.config import VllmConfig, VllmModel
from services.vllm.engine import Engine
from services.vllm.metrics import Metrics
from services.vllm.scratch import Scratch
from services.vllm.starting import abandon_starts, start

#: Seconds after a failed start in which calls get its error; then a call starts it again.
_FAILURE_HOLDS = 30.0


@dataclass(frozen=True)
class Running:
    """An engine and its adapters: by model name, what vLLM is told of it, or why it cannot
    be used."""

    engine: Engine
    adapters: Mapping[str, Adapter]


EngineSlot = Slot[VllmModel, Running]


class EnginePool:
    """All configured engines. One event loop owns it; engines start in threads."""

    def __init__(self, config: VllmConfig, metrics: Metrics) -> None:
        self._config = config
        self._metrics = metrics
        self._slots = {entry.name: EngineSlot(entry) for entry in config.models}
        self._bases = {
            model.name: slot
            for slot in self._slots.values()
            for model in (slot.entry, *slot.entry.lora)
        }
        # An engine takes its memory by what it sees as free.
        self._one_start = asyncio.Lock()
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watches: list[asyncio.Task[None]] = []
        self._scratch = Scratch()
        # vLLM's sockets outlive their processes, in the temporary folder by default.
        os.environ["VLLM_RPC_BASE_PATH"] = str(self._scratch.path)

    async def preload(self) -> None:
        """Start the engines that are marked `preload`."""
        for slot in self._slots.values():
            if slot.entry.preload:
                # It has been logged, and IsAvailable reports it.
                with suppress(BackendError):
                    await self._started(slot)

    async def failed(self) -> str:
        """Wait until an engine's core ends or hangs, and say which."""
        return await self._failed

    async def aclose(self) -> None:
        """Stop every engine."""
        for watch in self._watches:
            watch.cancel()
        for slot in self._slots.values():
            slot.cancel()
        running = [slot.running for slot in self._slots.values() if slot.running is not None]
        await asyncio.gather(*(asyncio.to_thread(each.engine.close) for each in running))
        abandon_starts()
        self._scratch.close()

    async def use(self, name: str) -> tuple[Engine, Any]:
        """The model's engine, started if need be, and its adapter or None."""
        running = await self._started(self._slot(name))
        adapter = running.adapters.get(name)
        if isinstance(adapter, BackendError):
            raise copy(adapter)
        return running.engine, adapter

    def availability(self, name: str) -> Availability:
        """The model's state, without touching it. Raises ModelNotFound, and what is wrong
        with an adapter."""
        slot = self._slot(name)
        if slot.running is None:
            return slot.availability(partial(_first_call, slot.entry, name))
        adapter = slot.running.adapters.get(name)
        if isinstance(adapter, BackendError):
            raise adapter
        return _running(slot.running.engine)

    def context_length(self, name: str) -> int | None:
        """Tokens of prompt and completion together, once the engine runs."""
        running = self._slot(name).running
        return None if running is None else running.engine.started.reader.context_length

    def capabilities(self, name: str) -> tuple[Capability, ...]:
        """What the model can do; whether it takes conversations shows when it runs."""
        slot = self._slot(name)
        reader = None if slot.running is None else slot.running.engine.started.reader
        chat = reader is not None and reader.chat
        return (
            *((Capability.CHAT,) if chat else ()),
            *CAPABILITIES,
            *((Capability.REASONING,) if slot.entry.reasoning_parser else ()),
        )

    def _slot(self, name: str) -> EngineSlot:
        """Raises ModelNotFound, which lists the models there are."""
        return find(self._bases, name, "configs/vllm_models.yaml")

    async def _started(self, slot: EngineSlot) -> Running:
        return await slot.loaded(partial(self._start, slot.entry), _FAILURE_HOLDS)

    async def _start(self, entry: VllmModel) -> Running:
        thread = ThreadPoolExecutor(1, f"engine {entry.name}")
        root_cause = self._scratch.path / entry.name.replace("/", "-")
        root_cause.write_bytes(b"")
        try:
            async with self._one_start:
                loop = asyncio.get_running_loop()
                started = await loop.run_in_executor(thread, start, entry, root_cause)
            engine = Engine(started, thread, self._config)
            failed = asyncio.create_task(engine.failed())
            adapters = await self._ready(entry, engine, failed, root_cause)
        except BackendError:
            thread.shutdown(wait=False)
            raise
        self._metrics.add(entry.name, started.registry, started.stats)
        self._watches.append(asyncio.create_task(self._tell_failed(entry.name, engine, failed)))
        # Or the collector walks all of torch and vLLM again and again, for seconds at the end.
        freeze_gc_heap()
        return Running(engine, adapters)

    async def _ready(
        self, entry: VllmModel, engine: Engine, failed: asyncio.Task[None], root_cause: Path
    ) -> Mapping[str, Adapter]:
        """Let the engine show that it can run, and load its adapters.

        Raises ModelMisconfigured where it fails of that.
        """
        making = asyncio.create_task(_make_ready(entry, engine))
        await asyncio.wait((making, failed), return_when=asyncio.FIRST_COMPLETED)
        try:
            if not making.done():
                raise RuntimeError(f"it {engine.failure}")
            return await making
        except Exception as error:
            making.cancel()
            failed.cancel()
            await asyncio.to_thread(engine.close)
            if isinstance(error, BackendError):
                raise
            raise failed_start(entry, "cannot run the model", error, root_cause) from error

    async def _tell_failed(self, name: str, engine: Engine, failed: asyncio.Task[None]) -> None:
        await failed
        if not self._failed.done():
            self._failed.set_result(f"the engine of {name} {engine.failure}")


async def _make_ready(entry: VllmModel, engine: Engine) -> dict[str, Adapter]:
    await engine.try_out()
    return await load_adapters(engine, entry)


def _running(engine: Engine) -> Availability:
    if engine.failure:
        detail = f"its engine {engine.failure}; the service starts again"
        return Availability(
            False, ModelState.UNKNOWN, detail, reason="UPSTREAM_UNAVAILABLE", load=engine.load()
        )
    return Availability(True, ModelState.READY, "running", load=engine.load())


def _first_call(entry: VllmModel, name: str) -> str:
    """What the first call will do. Raises ModelMisconfigured where files are missing."""
    check_files(entry)
    for adapter in entry.lora:
        if adapter.name == name:
            check_adapter(adapter)
    return "the first call starts its engine"
