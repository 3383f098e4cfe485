"""One model's engine: vLLM's AsyncLLM, whose core is a process of its own."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any, TypeVar

from vllm.exceptions import VLLMClientError
from vllm.inputs.engine import tokens_input
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.exceptions import EngineDeadError

from arena_llm.types import (
    Completion,
    Delta,
    EngineLoad,
    GenerationRequest,
    Score,
    Scoring,
    ScoringRequest,
    Usage,
)
from services.common.errors import InvalidRequest, Overloaded, UpstreamUnavailable
from services.common.local.constraints import constraint_field
from services.common.local.contain import contained
from services.common.local.finite import check_sums, not_finite
from services.vllm.config import VllmConfig
from services.vllm.reply import Reply
from services.vllm.request import next_token, prepare, prepare_scoring, this_token
from services.vllm.scoring import Path, all_of, sums
from services.vllm.starting import Started
from services.vllm.watchdog import Watchdog

T = TypeVar("T")

#: Seconds between two looks at the core.
_LOOK = 0.1


class Engine:
    """Runs requests on a started engine.

    `thread` is the one that started it; it reads the prompts. A method's `adapter` is
    vLLM's LoRARequest, or None for the base.
    """

    def __init__(self, started: Started, thread: ThreadPoolExecutor, config: VllmConfig) -> None:
        self.started = started
        self._llm = started.llm
        self._thread = thread
        self._config = config
        self._calls = 0
        self._hangs = False

    @property
    def failure(self) -> str:
        """What has become of its core; empty while that is well."""
        if self._llm.errored:
            return "has died"
        return f"has hung for {self._config.hang_seconds:g} s" if self._hangs else ""

    async def failed(self) -> None:
        """Return when the core has ended or hangs; calls in flight then fail."""
        watchdog = Watchdog(self._config.hang_seconds, _LOOK)
        while not self.failure:
            await asyncio.sleep(_LOOK)  # vLLM has no event for it
            unfinished = self._llm.get_num_unfinished_requests()
            self._hangs = watchdog.hangs(unfinished, self.started.stats.steps)
        # vLLM does so as well where the core has died, when it has cleaned up, which can
        # take it seconds.
        self._llm.output_processor.propagate_error(EngineDeadError())

    def load(self) -> EngineLoad:
        """What the engine is doing. It reports at its steps, so that its last word may be
        older than the end of the last requests."""
        stats, unfinished = self.started.stats, self._llm.get_num_unfinished_requests()
        running = min(stats.running, unfinished)
        return EngineLoad(running, unfinished - running, stats.generated)

    async def try_out(self, adapter: Any = None) -> None:
        """Generate a token: some models load and cannot run, and first calls are slow.

        Raises ModelMisconfigured if the model computes NaN.
        """
        params = SamplingParams(max_tokens=1, logprobs=1)
        async for _ in self._outputs(self.started.test_prompt, params, adapter, "model"):
            pass

    async def add_adapter(self, adapter: Any) -> None:
        """Load a LoRA adapter onto the model. Raises what vLLM raises."""
        await self._llm.add_lora(adapter)

    def close(self) -> None:
        """End the core and its workers; takes up to some seconds."""
        self._llm.shutdown()
        self._thread.shutdown(wait=False)

    async def generate(self, request: GenerationRequest, adapter: Any) -> Completion:
        """One whole completion."""
        async with aclosing(self._events(request, adapter, stream=False)) as events:
            async for event in events:
                if isinstance(event, Completion):
                    return event
        raise AssertionError("a stream ends with its completion")

    def stream(
        self, request: GenerationRequest, adapter: Any
    ) -> AsyncGenerator[Delta | Completion, None]:
        """Deltas, then the completion."""
        return self._events(request, adapter, stream=True)

    async def _events(
        self, request: GenerationRequest, adapter: Any, *, stream: bool
    ) -> AsyncGenerator[Delta | Completion, None]:
        arrived = time.perf_counter()
        with self._admitted():
            new_splitter = self.started.new_splitter
            splitter = None if new_splitter is None else new_splitter()
            prompt, params = await self._in_thread(
                prepare,
                self.started.reader,
                request,
                self._config.default_max_tokens,
                splitter,
                stream=stream,
            )
            field = constraint_field(request.constraint)
            reply = Reply(request, arrived, splitter, params.stop_token_ids)
            async with aclosing(self._outputs(prompt, params, adapter, field)) as outputs:
                async for output in outputs:
                    delta = reply.add(output)
                    if stream and (delta.text or delta.reasoning):
                        yield delta
                    last = output
            most = request.sampling.logprobs
            if most is not None and request.constraint is not None:
                told = await self._unconstrained(prompt, reply.tokens, most, adapter)
                reply.tell(reply.tokens, told)
            yield reply.completion(last)

    async def _unconstrained(
        self, prompt: list[int], tokens: list[int], most: int, adapter: Any
    ) -> list[Mapping[int, Any]]:
        """The tokens' log-probabilities before the constraint; vLLM tells those after it.

        Each is a step of its own, from the prefix cache.
        """

        async def at(place: int) -> Mapping[int, Any]:
            ids, params = [*prompt, *tokens[:place]], this_token(tokens[place], most)
            async with aclosing(self._outputs(ids, params, adapter, "config.logprobs")) as outputs:
                async for output in outputs:
                    found: Mapping[int, Any] = output.outputs[0].logprobs[0]
            return found

        places = [partial(at, place) for place in range(len(tokens))]
        return await all_of(places, self.started.max_running)

    async def score(self, request: ScoringRequest, adapter: Any) -> Scoring:
        """Each continuation's summed log-probability."""
        cached = 0
        with self._admitted():
            prompt, continuations = await self._in_thread(
                prepare_scoring, self.started.reader, request
            )

            async def ask(path: Path, tokens: list[int]) -> Mapping[int, float]:
                nonlocal cached
                ids, params = [*prompt, *path], next_token(tokens)
                async with aclosing(self._outputs(ids, params, adapter, "input")) as outputs:
                    async for output in outputs:
                        if not path:
                            cached = output.num_cached_tokens or 0
                        found = output.outputs[0].logprobs[0]
                return {token: found[token].logprob for token in tokens}

            logprobs = await sums(continuations, ask, self.started.max_running)
        check_sums(request.model, logprobs)
        counts = [len(tokens) for tokens in continuations]
        return Scoring(
            scores=tuple(map(Score, request.continuations, logprobs, counts)),
            usage=Usage(len(prompt), sum(counts), cached_tokens=cached),
            model=request.model,
        )

    async def _outputs(
        self, prompt: list[int], params: Any, adapter: Any, field: str
    ) -> AsyncGenerator[Any, None]:
        """vLLM's RequestOutputs; leaving it early ends the request in the engine.

        Raises InvalidRequest with `field` for what vLLM refuses, UpstreamUnavailable
        where the engine has failed, ModelMisconfigured where the model computes NaN.
        """
        if self._hangs:
            raise self._unavailable()
        request_id = f"vllm-{secrets.token_hex(8)}"
        outputs = self._llm.generate(tokens_input(prompt), params, request_id, lora_request=adapter)
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    if _has_nan(output):
                        name = self.started.reader.name if adapter is None else adapter.lora_name
                        raise not_finite(name)
                    yield output
        except VLLMClientError as error:
            why = " ".join(str(error).split())[:500]
            raise InvalidRequest(f"{field} cannot be used: {why}", field=field) from error
        except Exception as error:
            # While its core dies, vLLM raises whatever fails first.
            if not self.failure:
                raise
            raise self._unavailable() from error

    def _unavailable(self) -> UpstreamUnavailable:
        return UpstreamUnavailable(
            f"the engine of {self.started.reader.name} {self.failure} and is being started again; "
            "try again",
            retry_after=5.0,
        )

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """Count a call. Raises Overloaded where as many wait as may."""
        if self._calls >= self.started.max_running + self._config.max_waiting:
            raise Overloaded(
                f"{self._calls} calls are with this model already; try again later",
                retry_after=1.0,
            )
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    async def _in_thread(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(contained, call, *args, **kwargs))


def _has_nan(output: Any) -> bool:
    """Whether a RequestOutput comes from logits with NaN, or has a log-probability of NaN.

    vLLM counts NaN among logits (VLLM_COMPUTE_NANS_IN_LOGITS). An infinite logit makes the
    log-probabilities NaN.
    """
    if output.metrics is not None and output.metrics.is_corrupted:
        return True
    logprobs = output.outputs[0].logprobs or ()
    return any(math.isnan(entry.logprob) for tokens in logprobs for entry in tokens.values())
