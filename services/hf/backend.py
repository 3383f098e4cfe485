"""BaseLLMBackend over transformers. torch is imported by `start`, not by this file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from arena_llm.types import (
    Completion,
    Delta,
    GenerationRequest,
    Score,
    Scoring,
    ScoringRequest,
    Usage,
)
from services.common.local.backend import LocalBackend
from services.common.local.contain import contained
from services.hf.config import HfConfig, HfModel

if TYPE_CHECKING:
    from services.hf.pool import ModelPool

T = TypeVar("T")


class HfBackend(LocalBackend[HfConfig]):
    """Models that run in this process, batched continuously."""

    name = "hf"
    config_type = HfConfig
    parameters = frozenset(
        {
            *("temperature", "top_p", "top_k", "max_tokens", "seed", "stop"),
            *("presence_penalty", "frequency_penalty", "logprobs"),
        }
    )
    constraints = frozenset({"choices", "json_schema", "regex"})
    can_score = True
    refused: ClassVar[Mapping[str, str]] = {
        "provider_options": "leave it out: the model runs here, without a provider"
    }
    #: Hub, proxy, threads, devices.
    environment = (
        *("HF_*", "TRANSFORMERS_*", "*_proxy", "*_PROXY"),
        *("OMP_*", "GOMP_*", "MKL_*", "TORCH*", "CUDA_*"),
    )

    _pool: ModelPool

    @property
    def entries(self) -> Sequence[HfModel]:
        """Every model that can be asked for."""
        return self.config.models

    async def start(self) -> None:
        """Import torch, choose the device, load what is marked `preload`."""
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._pool = await asyncio.to_thread(_make_pool, self.config, self._on_lost)
        self._has_pool.set()
        await self._pool.preload()

    async def failed(self) -> str:
        """Wait until this process can no longer use its device. A dead engine ends only itself."""
        return await self._lost

    async def aclose(self) -> None:
        """Stop the engines."""
        if self._has_pool.is_set():
            await self._pool.aclose()

    async def generate_response(self, request: GenerationRequest) -> Completion:
        """Answer with one whole completion."""
        async with aclosing(self.stream_response(request)) as events:
            async for event in events:
                if isinstance(event, Completion):
                    return event
        raise AssertionError("a stream ends with its completion")

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Completion, None]:
        """Yield the text as it grows, then the completion."""
        await self._has_pool.wait()
        from services.hf.prompt import prepare  # torch is in memory by now

        async with self._pool.use(request.model) as running:
            events: asyncio.Queue[Delta | Completion | BaseException] = asyncio.Queue()
            loop = asyncio.get_running_loop()
            sequence = await loop.run_in_executor(
                running.tokenizing,
                contained,
                prepare,
                running.model,
                request,
                self.config.default_max_tokens,
                _from_thread(loop, events),
            )
            running.engine.submit(sequence)
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
        """Give each continuation's summed log-probability."""
        await self._has_pool.wait()
        from services.hf.prompt import prepare_scoring  # torch is in memory by now

        async with self._pool.use(request.model) as running:
            results: asyncio.Queue[list[float] | BaseException] = asyncio.Queue()
            loop = asyncio.get_running_loop()
            job = await loop.run_in_executor(
                running.tokenizing,
                contained,
                prepare_scoring,
                running.model,
                request,
                _from_thread(loop, results),
            )
            running.engine.submit(job)
            try:
                sums = await results.get()
            finally:
                job.cancel()
        if isinstance(sums, BaseException):
            raise sums
        counts = [len(tokens) for tokens in job.continuations]
        return Scoring(
            scores=tuple(
                Score(text, logprob, tokens)
                for text, logprob, tokens in zip(request.continuations, sums, counts, strict=True)
            ),
            usage=Usage(
                prompt_tokens=len(job.prompt),
                completion_tokens=sum(counts),
                cached_tokens=job.cached,
            ),
            model=request.model,
        )

    def _on_lost(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)


def _make_pool(config: HfConfig, on_lost: Callable[[str], None]) -> ModelPool:
    # Read when torch loads its OpenMP (libgomp): how long a thread spins for work. Its
    # default is the fastest on an idle machine (72 ms a step of 8 rows) and the slowest,
    # 430 to 1,300 ms, as soon as the router or a game wants one of the cores; not to
    # spin at all takes 90 and 125. This short spin takes 78 and 160.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    import torch

    from services.hf.pool import ModelPool
    from services.hf.tuning import tune_cpu

    wanted = config.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        tune_cpu(config.threads)
    return ModelPool(config, torch.device(wanted), on_lost)


def _from_thread(loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[T]) -> Callable[[T], None]:
    """Put what another thread says into the queue."""
    return lambda item: _call_soon(loop, queue.put_nowait, item)


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[Any], None], item: Any) -> None:
    if not loop.is_closed():  # at the very end nobody listens any more
        loop.call_soon_threadsafe(call, item)
