"""The vllm service's models: one engine each, with its LoRA adapters."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vllm.lora.request import LoRARequest
from vllm.utils.gc_utils import freeze_gc_heap

from services.common.errors import BackendError, ModelMisconfigured
from services.common.local.features import Features
from services.common.local.pool import ModelPool, ModelSlot, name_file
from services.common.log import log
from services.vllm.child import SHARED
from services.vllm.config import LoraAdapter, VllmConfig, VllmModel
from services.vllm.engine import Adapter, VllmEngine
from services.vllm.errors import (
    check_adapter_folder,
    check_adapter_shapes,
    check_files,
    explain_start_failure,
    make_misfit_error,
)
from services.vllm.metrics import Metrics
from services.vllm.processes import (
    ScratchFolder,
    kill_starting_engines,
    remove_folder,
    remove_memory,
)
from services.vllm.start import start_engine

EngineSlot = ModelSlot[VllmModel, VllmEngine]


class VllmPool(ModelPool[VllmModel, VllmEngine]):
    """The configured engines. Each starts in a separate thread."""

    failure_hold_seconds = 30.0

    def __init__(self, config: VllmConfig, metrics: Metrics) -> None:
        super().__init__(config.models, config.path, config.default_max_tokens)
        self._config = config
        self._metrics = metrics
        # One start at a time, because an engine takes a share of the memory that is free.
        self._start_lock = asyncio.Lock()
        self._watches: list[asyncio.Task[None]] = []
        self._scratch = ScratchFolder()

    async def aclose(self) -> None:
        """Stop every engine."""
        for watch in self._watches:
            watch.cancel()
        await super().aclose()
        kill_starting_engines()
        self._scratch.close()

    def _model_names(self, entry: VllmModel) -> Sequence[str]:
        return [model.name for model in (entry, *entry.lora)]

    def _preloads(self, entry: VllmModel) -> bool:
        return entry.preload

    def _configured_features(self, entry: VllmModel) -> Features:
        reasons = entry.reasoning_parser is not None
        return Features(reasoning=reasons, efforts=entry.reasoning_efforts)

    def _max_tokens(self, entry: VllmModel) -> int:
        return self._config.max_tokens(entry)

    def _describe_first_call(self, entry: VllmModel, name: str) -> str:
        check_files(entry)
        for adapter in entry.lora:
            if adapter.name == name:
                check_adapter_folder(adapter)
        return "the first call starts its engine"

    async def _load(self, slot: EngineSlot) -> VllmEngine:
        entry = slot.entry
        thread = ThreadPoolExecutor(1, f"engine {entry.name}")
        folder, shared = self._scratch.make_folder(), secrets.token_hex(4)
        root_cause = folder / "error"
        root_cause.write_bytes(b"")
        try:
            async with self._start_lock:
                # vLLM's sockets outlive their processes. By default they are in the temporary
                # folder.
                os.environ["VLLM_RPC_BASE_PATH"] = str(folder)
                os.environ[SHARED] = shared
                loop = asyncio.get_running_loop()
                started = await loop.run_in_executor(thread, start_engine, entry, root_cause)
            engine = VllmEngine(started, thread, self._config, entry)
            failed = asyncio.create_task(engine.failed())
            await self._prepare(entry, engine, failed, root_cause)
        except BackendError:
            thread.shutdown(wait=False)
            # A model may fail to start again and again.
            remove_folder(folder)
            remove_memory(shared)
            raise
        self._metrics.add(entry.name, started.registry, started.stats)
        self._watches.append(asyncio.create_task(self._watch(entry.name, engine, failed)))
        # Otherwise the garbage collector repeatedly scans all of torch and vLLM, which takes
        # seconds when the process ends.
        freeze_gc_heap()
        return engine

    async def _unload(self, slot: EngineSlot) -> None:
        engine, slot.running = slot.running, None
        if engine is not None:
            await asyncio.to_thread(engine.close)

    async def _prepare(
        self, entry: VllmModel, engine: VllmEngine, failed: asyncio.Task[None], root_cause: Path
    ) -> None:
        """Check that the engine can run the model, and load its adapters.

        Closes the engine and raises ModelMisconfigured if it cannot.
        """
        preparing = asyncio.create_task(self._try_out(entry, engine))
        await asyncio.wait((preparing, failed), return_when=asyncio.FIRST_COMPLETED)
        try:
            if not preparing.done():
                raise RuntimeError(f"it {engine.failure}")
            await preparing
        except Exception as error:
            preparing.cancel()
            failed.cancel()
            await asyncio.to_thread(engine.close)
            if isinstance(error, BackendError):
                raise
            raise explain_start_failure(entry, "cannot run the model", error, root_cause) from error

    async def _try_out(self, entry: VllmModel, engine: VllmEngine) -> None:
        await engine.try_out()
        for number, lora in enumerate(entry.lora, start=1):
            engine.adapters[lora.name] = await self._load_adapter(entry, engine, lora, number)

    async def _load_adapter(
        self, entry: VllmModel, engine: VllmEngine, lora: LoraAdapter, number: int
    ) -> Adapter:
        """Load one adapter. Returns its LoRARequest, or the error that makes it unusable.

        An error does not affect the base or the other adapters.
        """
        try:
            check_adapter_folder(lora)
            check_adapter_shapes(lora, entry.model_path)
            adapter = LoRARequest(lora.name, number, str(lora.path))
            await engine.add_adapter(adapter)
            await engine.try_out(adapter)
            return adapter
        except ModelMisconfigured as wrong:
            error = wrong
        except Exception as wrong:  # any error that the adapter's files cause
            error = make_misfit_error(lora, " ".join(str(wrong).split())[:400])
        error = name_file(error, self._path)
        log.error("adapter", model=lora.name, reason=error.message)
        return error

    async def _watch(self, name: str, engine: VllmEngine, failed: asyncio.Task[None]) -> None:
        await failed
        self.fail(f"the engine of {name} {engine.failure}")
