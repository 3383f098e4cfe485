"""One model's engine: vLLM's AsyncLLM, whose core is a separate process."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from vllm.exceptions import VLLMClientError
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.exceptions import EngineDeadError

from arena_llm.types import (
    Availability,
    Completion,
    CountRequest,
    Delta,
    EngineLoad,
    GenerationRequest,
    ModelState,
    Scoring,
    ScoringRequest,
    ServedBy,
    TokenCount,
    Usage,
)
from services.common.errors import BackendError, InvalidRequest, Overloaded, UpstreamUnavailable
from services.common.local.checks import check_sums, make_not_finite_error
from services.common.local.containment import contained
from services.common.local.grammars import constraint_field
from services.common.local.pool import misconfigured
from services.common.local.request import PromptReader
from services.common.local.trace import ScoredToken, make_count, make_scoring
from services.common.tenant import TENANT, Shares
from services.common.turns import Turns
from services.vllm.config import VllmConfig, VllmModel
from services.vllm.gate import GroupGate
from services.vllm.images import ImagePrompt, make_input
from services.vllm.processes import Watchdog
from services.vllm.request import (
    name_group,
    prepare_generation,
    returns_logprobs,
    wants_logprobs,
)
from services.vllm.response import VllmCompletionBuilder
from services.vllm.start import StartedEngine
from services.vllm.steps import Scorer

T = TypeVar("T")

#: vLLM's LoRARequest of an adapter, or the BackendError that makes it unusable.
Adapter = Any

#: Seconds between two checks of the core.
_CHECK_INTERVAL = 0.1

#: The core gets one more call per this many places of its batch. It starts that call in the step in
#: which another one ends. Otherwise a place would be free for a step, and a move has few steps.
_AHEAD = 8


class VllmEngine:
    """Runs requests on a started engine.

    thread: the thread that started it; it also prepares the requests. adapters: by model name.
    """

    def __init__(
        self,
        started: StartedEngine,
        thread: ThreadPoolExecutor,
        config: VllmConfig,
        entry: VllmModel,
    ) -> None:
        self._started = started
        self.adapters: dict[str, Adapter] = {}
        self._llm = started.llm
        self._thread = thread
        self._config = config
        self._default_max_tokens = config.max_tokens(entry)
        self._calls = 0
        self._hangs = False
        self._gate = GroupGate()
        places = started.max_running * started.llm.vllm_config.parallel_config.data_parallel_size
        self._most = places + config.max_waiting
        self._shares = Shares(self._most)
        self._turns = Turns(places + max(1, places // _AHEAD))
        started.stats.count_held = lambda: self._turns.waiting
        #: True if the engine has vLLM's first model runner: see GroupGate.
        self._mixed_up: bool = not started.llm.vllm_config.use_v2_model_runner

    @property
    def reader(self) -> PromptReader:
        """Turns the model's requests into tokens."""
        return self._started.reader

    @property
    def served_by(self) -> ServedBy:
        """What replies say about the model."""
        return self._started.served_by

    @property
    def failure(self) -> str:
        """What has happened to the core, such as "has died"; empty while it works."""
        if self._llm.errored:
            return "has died"
        return f"has hung for {self._config.hang_seconds:g} s" if self._hangs else ""

    async def failed(self) -> None:
        """Wait until the core ends or hangs, then fail the running calls."""
        watchdogs: dict[int, Watchdog] = {}
        while not self.failure:
            await asyncio.sleep(_CHECK_INTERVAL)  # vLLM has no event for it
            for rank, unfinished in enumerate(self._count_unfinished()):
                if rank not in watchdogs:
                    watchdogs[rank] = Watchdog(self._config.hang_seconds, _CHECK_INTERVAL)
                steps = self._started.stats.ranks[rank].steps
                self._hangs = self._hangs or watchdogs[rank].hangs(unfinished, steps)
        # vLLM does this too if the core has died, but only after its clean-up, which can take
        # seconds.
        self._llm.output_processor.propagate_error(EngineDeadError())

    def _count_unfinished(self) -> list[int]:
        """The unfinished requests of each rank."""
        client = self._llm.engine_core
        in_flight = getattr(client, "engine_inflight", None)  # only with several ranks
        if in_flight is None:
            return [self._llm.get_num_unfinished_requests()]
        return [in_flight[engine] for engine in client.core_engines]

    def availability(self, model: str) -> Availability:
        """The state of the base or of an adapter, with the engine's load."""
        adapter = self.adapters.get(model)
        if isinstance(adapter, BackendError):
            return misconfigured(adapter)
        if self.failure:
            detail = f"its engine {self.failure}; the service restarts"
            return Availability(
                False,
                ModelState.UNKNOWN,
                detail,
                reason=UpstreamUnavailable.reason,
                load=self._load(),
            )
        return Availability(True, ModelState.READY, "running", load=self._load())

    def _load(self) -> EngineLoad:
        """The engine reports its load only when it runs a step, so its numbers can be stale."""
        stats, unfinished = self._started.stats, self._llm.get_num_unfinished_requests()
        running = min(stats.running, unfinished)
        waiting = unfinished - running + self._turns.waiting
        return EngineLoad(running, waiting, stats.generated)

    async def try_out(self, adapter: Adapter = None) -> None:
        """Generate a token: some models load but cannot run, and first calls are slow.

        Raises ModelMisconfigured if the model computes NaN.
        """
        params = SamplingParams(max_tokens=1, logprobs=1)
        async for _ in self._outputs(
            make_input(self._started.test_prompt), params, adapter, "model"
        ):
            pass

    async def add_adapter(self, adapter: Adapter) -> None:
        """Load a LoRA adapter onto the model. Raises what vLLM raises."""
        await self._llm.add_lora(adapter)

    def close(self) -> None:
        """Stop the core and its workers; takes up to a few seconds."""
        self._llm.shutdown()
        self._thread.shutdown(wait=False)

    async def run(
        self, request: GenerationRequest, *, stream: bool
    ) -> AsyncGenerator[Delta | Completion, None]:
        """Yield deltas, if `stream` is true, then the completion."""
        adapter = self._find_adapter(request.model)
        arrived = time.perf_counter()
        with self._admit():
            prepared = await self._in_thread(
                prepare_generation,
                self._started,
                request,
                self._default_max_tokens,
                stream=stream,
            )
            field = constraint_field(request.constraint)
            if request.constraint is None and prepared.params.structured_outputs is not None:
                field = "tools"
            prompt, params = prepared.prompt, prepared.params
            ready = time.perf_counter()
            async with self._turns.take(TENANT.get()):
                builder = VllmCompletionBuilder(
                    request,
                    prepared,
                    arrived,
                    self.reader,
                    self._started.vocabulary,
                    waited=time.perf_counter() - ready,
                )
                inputs = make_input(prompt)
                async with aclosing(self._outputs(inputs, params, adapter, field)) as outputs:
                    async for output in outputs:
                        deltas = builder.append(output)
                        for delta in deltas if stream else ():
                            yield delta
                        last = output
                        if builder.stopped:
                            break  # the engine aborts the request
                if wants_logprobs(request.returns) and not returns_logprobs(params):
                    places = range(builder.reasoning_tokens, len(builder.tokens))
                    logprobs = await self._make_scorer(adapter).replay(
                        prompt, builder.tokens, places, request.returns
                    )
                    builder.add_logprobs(builder.tokens[places.start :], logprobs)
                completion = builder.finish(last)
                yield replace(
                    completion,
                    usage=_count_images(completion.usage, prompt),
                    served_by=self._name_model(request.model),
                )

    async def score(self, request: ScoringRequest) -> Scoring:
        """The log-probability of each continuation."""
        scorer = self._make_scorer(self._find_adapter(request.model))
        top = request.top_logprobs or 0
        with self._admit():
            prompt, continuations = await self._in_thread(self.reader.read_scoring, request)
            async with self._turns.take(TENANT.get()):
                scored, cached = await scorer.score(prompt, continuations, top)
                scored_prompt: list[ScoredToken] = []
                if request.prompt_logprobs:
                    scored_prompt = await scorer.score_prompt(prompt, top)
        check_sums(request.model, [token.logprob for token in scored_prompt])
        check_sums(request.model, [text.logprob for text in scored])
        scoring = make_scoring(
            self._started.vocabulary,
            request,
            prompt,
            continuations,
            scored,
            scored_prompt,
            cached,
        )
        return replace(
            scoring,
            usage=_count_images(scoring.usage, prompt),
            served_by=self._name_model(request.model),
        )

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        """The number of the input's tokens."""
        tokens = await self._in_thread(self.reader.read_count, request)
        return make_count(self._started.vocabulary, request, tokens)

    def _name_model(self, model: str) -> ServedBy:
        return replace(self.served_by, model=model)

    def _find_adapter(self, model: str) -> Adapter:
        """The LoRARequest of a model; None for the base. Raises the adapter's error."""
        adapter = self.adapters.get(model)
        if isinstance(adapter, BackendError):
            raise copy(adapter)
        return adapter

    def _make_scorer(self, adapter: Adapter) -> Scorer:
        """Computes log-probabilities with the base or an adapter."""

        async def step(inputs: Any, params: Any, field: str) -> Any:
            async with aclosing(self._outputs(inputs, params, adapter, field)) as outputs:
                async for output in outputs:
                    last = output
            return last

        return Scorer(step, self._started.max_running)

    async def _outputs(
        self, inputs: Any, params: Any, adapter: Adapter, field: str
    ) -> AsyncGenerator[Any, None]:
        """vLLM's RequestOutputs. Closing the generator early aborts the request in the engine.

        inputs: of make_input.
        Raises InvalidRequest with `field` for a request that vLLM refuses, UpstreamUnavailable
        if the engine has failed, ModelMisconfigured if the model computes NaN.
        """
        if self._hangs:
            raise self._unavailable()
        request_id = f"vllm-{secrets.token_hex(8)}"
        outputs = self._llm.generate(inputs, params, request_id, lora_request=adapter)
        group = self._mixed_up and name_group(params)
        try:
            async with self._gate.enter(group or ""), aclosing(outputs):
                async for output in outputs:
                    if _has_nan(output):
                        raise make_not_finite_error(
                            self.reader.name if adapter is None else adapter.lora_name
                        )
                    yield output
        except VLLMClientError as error:
            why = " ".join(str(error).split())[:500]
            raise InvalidRequest(f"{field} cannot be used: {why}", field=field) from error
        except Exception as error:
            # While its core dies, vLLM raises whichever error comes first.
            if not self.failure:
                raise
            raise self._unavailable() from error

    def _unavailable(self) -> UpstreamUnavailable:
        return UpstreamUnavailable(
            f"the engine of {self.reader.name} {self.failure} and is being restarted; try again",
            retry_after=5.0,
        )

    @contextmanager
    def _admit(self) -> Iterator[None]:
        """Count a call while it runs. Raises Overloaded if the queue is full, or if the tenant has
        its share of it."""
        if self._calls >= self._most:
            raise Overloaded(
                f"this model already has {self._calls} calls; try again later", retry_after=1.0
            )
        self._calls += 1
        try:
            with self._shares.hold(TENANT.get()):
                yield
        finally:
            self._calls -= 1

    async def _in_thread(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(contained, call, *args, **kwargs))


def _count_images(usage: Usage, prompt: list[int]) -> Usage:
    """The usage with the number of tokens that are images, if the prompt has some."""
    if not isinstance(prompt, ImagePrompt):
        return usage
    return replace(usage, image_tokens=prompt.image_tokens)


def _has_nan(output: Any) -> bool:
    """True if a RequestOutput was computed from logits with NaN.

    vLLM counts NaN among logits (VLLM_COMPUTE_NANS_IN_LOGITS). An infinite logit makes the
    log-probabilities NaN.
    """
    if output.metrics is not None and output.metrics.is_corrupted:
        return True
    logprobs = output.outputs[0].logprobs or ()
    return any(math.isnan(entry.logprob) for tokens in logprobs for entry in tokens.values())
