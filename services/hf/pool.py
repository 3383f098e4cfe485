"""The hf service's models: each runs in this process, within one memory budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from arena_llm.types import (
    Availability,
    Completion,
    CountRequest,
    Delta,
    GenerationRequest,
    ModelState,
    Scoring,
    ScoringRequest,
    ServedBy,
    TokenCount,
)
from services.common.errors import BackendError, ModelMisconfigured, Overloaded
from services.common.local.containment import contained
from services.common.local.features import Features
from services.common.local.pool import ModelPool, ModelSlot
from services.common.local.request import PromptReader
from services.common.local.trace import make_count, make_scoring
from services.common.log import log
from services.common.tenant import TENANT, Shares
from services.hf.budget import MemoryAccount, MemoryBudget, default_budget
from services.hf.checkpoint import is_downloaded, locate, weight_bytes
from services.hf.config import HfConfig, HfModel
from services.hf.description import check_torch
from services.hf.engine import EngineLimits, HfEngine
from services.hf.errors import is_device_lost
from services.hf.forward import LoadLimits, Scored
from services.hf.loading import LoadedModel, load
from services.hf.memory import release_memory
from services.hf.request import prepare_generation, prepare_scoring
from services.hf.sequence import Sink

T = TypeVar("T")


class RunningModel:
    """A loaded model, its engine, and a thread that prepares its requests."""

    def __init__(
        self,
        model: LoadedModel,
        engine: HfEngine,
        account: MemoryAccount,
        default_max_tokens: int,
        places: int,
    ) -> None:
        """places: requests that may run or wait."""
        self._shares = Shares(places)
        self.model = model
        self.engine = engine
        self.account = account
        self._default_max_tokens = default_max_tokens
        self._preparing = ThreadPoolExecutor(1, f"prepare {model.name}")

    @property
    def reader(self) -> PromptReader:
        """Turns the model's requests into tokens."""
        return self.model.reader

    @property
    def served_by(self) -> ServedBy:
        """What replies say about the model."""
        return self.model.served_by

    def availability(self, model: str) -> Availability:
        """Ready, with the engine's load."""
        detail = "; ".join(filter(None, ("loaded", self.model.note)))
        return Availability(True, ModelState.READY, detail, load=self.engine.load())

    async def run(
        self, request: GenerationRequest, *, stream: bool
    ) -> AsyncGenerator[Delta | Completion, None]:
        """Yield deltas, if the caller reads a stream, then the completion."""
        with self._shares.hold(TENANT.get()):
            async with aclosing(self._run(request, stream)) as events:
                async for event in events:
                    yield event

    async def _run(
        self, request: GenerationRequest, stream: bool
    ) -> AsyncGenerator[Delta | Completion, None]:
        events: asyncio.Queue[Delta | Completion | BaseException] = asyncio.Queue()
        put = _thread_safe_put(events)
        sequence = await self._in_thread(
            prepare_generation,
            self.model,
            request,
            self._default_max_tokens,
            put if stream else _completions(put),
        )
        sequence.tenant = TENANT.get()
        self.engine.submit(sequence)
        try:
            while True:
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Completion):
                    return
        finally:
            sequence.cancel()

    async def score(self, request: ScoringRequest) -> Scoring:
        """The log-probability of each continuation."""
        results: asyncio.Queue[Scored | BaseException] = asyncio.Queue()
        job = await self._in_thread(prepare_scoring, self.model, request, _thread_safe_put(results))
        job.tenant = TENANT.get()
        with self._shares.hold(job.tenant):
            self.engine.submit(job)
            try:
                scored = await results.get()
            finally:
                job.cancel()
        if isinstance(scored, BaseException):
            raise scored
        scoring = make_scoring(
            self.model.vocabulary,
            request,
            job.prompt,
            job.continuations,
            scored.continuations,
            scored.prompt,
            scored.cached,
        )
        return replace(scoring, served_by=self.served_by)

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        """The number of the input's tokens."""
        tokens = await self._in_thread(self.reader.read_count, request)
        return make_count(self.model.vocabulary, request, tokens)

    async def close(self) -> None:
        """Stop the engine. Its requests fail."""
        self._preparing.shutdown(wait=False)
        await asyncio.to_thread(self.engine.close)

    async def _in_thread(self, call: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._preparing, contained, call, *args)


HfSlot = ModelSlot[HfModel, RunningModel]


class HfPool(ModelPool[HfModel, RunningModel]):
    """The configured models. The least recently used idle model is dropped if memory is short."""

    failure_hold_seconds = 5.0
    unloads = True

    def __init__(self, config: HfConfig, device: str, path: Path) -> None:
        super().__init__(config.models, path, config.default_max_tokens)
        self._config = config
        self._device = device
        total = config.memory_budget_gb
        self._budget = MemoryBudget(
            default_budget(str(device)) if total is None else int(total * 1e9)
        )
        # One load at a time: two would each see the other's memory as free.
        self._load_lock = asyncio.Lock()

    def _preloads(self, entry: HfModel) -> bool:
        return entry.preload

    def _configured_context_length(self, entry: HfModel) -> int | None:
        return entry.context_length

    def _configured_features(self, entry: HfModel) -> Features:
        reasons = entry.reasoning_parser is not None
        return Features(reasoning=reasons, efforts=entry.reasoning_efforts)

    def _describe_first_call(self, entry: HfModel, name: str) -> str:
        check_torch(entry, self._device)
        if entry.model_path is not None:
            locate(entry)
        elif not is_downloaded(entry):
            return (
                f"not downloaded: the first call fetches {entry.hub_repo} from the model hub and "
                "loads it"
            )
        return "the first call loads it"

    async def _load(self, slot: HfSlot) -> RunningModel:
        async with self._load_lock:
            check_torch(slot.entry, self._device)  # before gigabytes are downloaded
            folder = await asyncio.to_thread(locate, slot.entry)
            files = weight_bytes(folder)
            entry = self._fit_prefixes(slot.entry, files)
            await self._make_room(slot, files + _prefix_bytes(entry))
            limits = LoadLimits(
                self._config.prefill_tokens, self._budget.total, self._config.threads
            )
            model = await asyncio.to_thread(load, entry, folder, self._device, limits)
            # The files' size was an estimate: in float32 the weights may take twice as much.
            fixed = model.size + (_prefix_bytes(entry) if model.forward.prefixes else 0)
            least = model.forward.cache_bytes([len(model.test_prompt)])
            await self._make_room(slot, fixed + least)
            return self._start_engine(slot, model, self._budget.open(fixed))

    async def _unload(self, slot: HfSlot) -> None:
        running, slot.running = slot.running, None
        if running is not None:
            await running.close()
            running.account.close()
            del running
            release_memory()
            log.info("dropped", model=slot.entry.name)

    def _fit_prefixes(self, entry: HfModel, files: int) -> HfModel:
        """The entry with a prefix cache of at most a quarter of the memory beside the weights."""
        most = max(0, self._budget.total - files) / 4 / 1e9
        return entry.model_copy(update={"prefix_cache_gb": min(entry.prefix_cache_gb, most)})

    def _start_engine(
        self, slot: HfSlot, model: LoadedModel, account: MemoryAccount
    ) -> RunningModel:
        limits = EngineLimits(
            max_batch=self._config.max_batch,
            max_waiting=self._config.max_waiting,
            prefill_tokens=self._config.prefill_tokens,
        )
        loop = asyncio.get_running_loop()

        def on_dead(error: BackendError) -> None:
            with suppress(RuntimeError):  # the loop is closed while the process ends
                loop.call_soon_threadsafe(self._handle_death, slot, running, error)

        engine = HfEngine(model.name, model.forward, limits, account, model.test_prompt, on_dead)
        config = self._config
        places = config.max_waiting + config.max_batch
        running = RunningModel(model, engine, account, config.default_max_tokens, places)
        return running

    def _handle_death(self, slot: HfSlot, running: RunningModel, error: BackendError) -> None:
        """Record that a model's engine has died. A later call loads the model again."""
        log.error("died", model=slot.entry.name, reason=error.message)
        if slot.running is running:  # else the model is being dropped
            slot.end(error)
            self._clearing = asyncio.create_task(self._clear(running))

    async def _clear(self, running: RunningModel) -> None:
        await running.close()
        running.account.close()
        del running
        release_memory()
        if await asyncio.to_thread(is_device_lost, self._device):
            self.fail(f"this process can no longer use {self._device}")

    async def _make_room(self, slot: HfSlot, needed: int) -> None:
        """Drop idle models, least recently used first, until `needed` bytes fit.

        Raises ModelMisconfigured if the model alone exceeds the budget, Overloaded if all
        others are in use.
        """
        budget = self._budget
        if needed > budget.total:
            raise ModelMisconfigured(
                f"{slot.entry.name} needs {needed / 1e9:.3g} GB, over memory_budget_gb of "
                f"{budget.total / 1e9:.3g}"
            )
        # Looked up each time: while one model was dropped, another may have got a call.
        while needed > budget.free:
            loaded = [
                other for other in self._slots if other is not slot and other.running is not None
            ]
            idle = [other for other in loaded if not other.users]
            if not idle:
                raise Overloaded(
                    f"no memory for {slot.entry.name}: the other loaded models are in use",
                    retry_after=5.0,
                )
            await self._unload(min(idle, key=lambda other: other.used_at))


def _prefix_bytes(entry: HfModel) -> int:
    return int(entry.prefix_cache_gb * 1e9)


def _thread_safe_put(queue: asyncio.Queue[T]) -> Callable[[T], None]:
    """A function with which another thread puts items into the queue of this event loop."""
    loop = asyncio.get_running_loop()

    def put(item: T) -> None:
        if not loop.is_closed():  # it is closed while the process ends
            loop.call_soon_threadsafe(queue.put_nowait, item)

    return put


def _completions(put: Sink) -> Sink:
    """A sink without deltas. Each would wake the event loop, which takes a core from the model."""

    def pass_on(event: Delta | Completion | BaseException) -> None:
        if not isinstance(event, Delta):
            put(event)

    return pass_on
