"""Drives a real engine, pass by pass where a test needs to see the order of events."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

from arena_llm.types import (
    DEFAULT_RETURNS,
    Completion,
    Constraint,
    Continuation,
    Delta,
    GenerationRequest,
    Input,
    Regex,
    ReturnOptions,
    Sampling,
    ScoringRequest,
)
from services.hf.budget import MemoryAccount, MemoryBudget
from services.hf.config import HfModel
from services.hf.engine import EngineLimits, HfEngine
from services.hf.forward import Batch, Floats, Forward, LoadLimits, Scored, ScoringTask, Work
from services.hf.loading import LoadedModel, load
from services.hf.request import prepare_generation, prepare_scoring
from services.hf.sequence import ScoringJob

NAME = "hf_tiny"
PATIENCE = 30.0


def load_tiny(folder: Path, *, step_tokens: int = 32, **entry: Any) -> LoadedModel:
    # A small prefix cache, so that it is sometimes full.
    described = HfModel(
        name=NAME,
        model_path=folder,
        **{"prefix_cache_gb": 0.0005, "engine": "transformers", **entry},
    )
    return load(described, folder, "cpu", LoadLimits(step_tokens))


def request(
    prompt_input: Input = "Your move?",
    constraint: Constraint | None = None,
    returns: ReturnOptions = DEFAULT_RETURNS,
    **sampling: Any,
) -> GenerationRequest:
    return GenerationRequest(NAME, prompt_input, Sampling(**sampling), constraint, returns=returns)


#: Requests whose texts cannot end before max_tokens.
SHORT = request("7", Regex("[78]{90}"), max_tokens=2)
LONG = request("8", Regex("[89]{900}"), max_tokens=40)


def finished(work: Work) -> Any:
    """Run a generator of passes to its end. Returns its result."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value


class DrivenRequest:
    """One request in an engine, and its events."""

    def __init__(self, model: LoadedModel, engine: HfEngine, generation: GenerationRequest) -> None:
        self._events: queue.Queue[Delta | Completion | BaseException] = queue.Queue()
        self.sequence = prepare_generation(model, generation, 16, self._events.put)
        engine.submit(self.sequence)

    def next(self) -> Delta | Completion:
        event = self._events.get(timeout=PATIENCE)
        if isinstance(event, BaseException):
            raise event
        return event

    def completion(self) -> Completion:
        """The completion. Checks that the deltas before it make its text."""
        text = ""
        while isinstance(event := self.next(), Delta):
            assert event.text, "a delta is never empty"
            text += event.text
        assert text == event.text
        return event

    def completion_tail(self) -> Completion:
        """The completion, of whose deltas the first may have been read."""
        while isinstance(event := self.next(), Delta):
            pass
        return event

    @property
    def silent(self) -> bool:
        """True if no event waits to be read."""
        return self._events.empty()


class Stepped:
    """A real model that makes its passes only when a test allows them.

    `let(n)` allows n more passes (decoding steps or pieces of a prompt) and waits until they
    are done. broken: kinds of passes ("step", "prefill") that always fail. failing: kinds of
    the next passes to fail, once each. unreadable: a prompt that cannot be read. error: what
    failing passes raise. read: the prompts that were begun. groups: how many prompts were read
    together in each pass. passes: the kinds of all passes so far.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self.prefixes = forward.prefixes
        self.mixes = forward.mixes
        self.pass_tokens, self.cache_bytes = forward.pass_tokens, forward.cache_bytes
        self.thread_context = forward.thread_context
        self._allowed = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._standing = threading.Event()
        self._free = False
        self.broken: set[str] = set()
        self.failing: list[str] = []
        self.unreadable: list[int] = []
        self.error: Exception = ArithmeticError("a pass is broken")
        self.read: list[list[int]] = []
        self.groups: list[int] = []
        self.passes: list[str] = []

    @property
    def held_bytes(self) -> int:
        return self._forward.held_bytes

    def return_memory(self) -> None:
        self._forward.return_memory()

    def let(self, passes: int) -> None:
        for _ in range(passes):
            self._allowed.release()
            assert self._done.acquire(timeout=PATIENCE)

    def stand(self) -> None:
        """Wait until the engine waits for its next pass: then all earlier results are counted."""
        assert self._standing.wait(PATIENCE)

    def go(self) -> None:
        """Allow all further passes."""
        self._free = True
        self._allowed.release()

    def wait(self, kind: str) -> None:
        self._standing.set()
        if not self._free:
            assert self._allowed.acquire(timeout=PATIENCE)
        self._standing.clear()
        self.passes.append(kind)
        if kind in self.failing or kind in self.broken:
            if kind in self.failing:
                self.failing.remove(kind)
            self._done.release()
            raise self.error

    def passed(self) -> None:
        self._done.release()

    def uncached(self) -> Forward:
        uncached = copy(self)
        uncached._forward = self._forward.uncached()
        return uncached

    def new_batch(self) -> Batch:
        return SteppedBatch(self, self._forward.new_batch())

    def prefill(self, prompts: Sequence[list[int]]) -> Work:
        self.read.extend(prompts)
        self.groups.append(len(prompts))
        if self.unreadable in prompts:
            raise self.error
        return self._each_pass("prefill", self._forward.prefill(prompts))

    def score(self, task: ScoringTask) -> Work:
        scoring = self._forward.score(task)
        return self._each_pass("score", scoring)

    def _each_pass(self, kind: str, work: Work) -> Work:
        while True:
            self.wait(kind)
            try:
                next(work)
            except StopIteration as stop:
                self.passed()
                return stop.value
            self.passed()
            yield


class SteppedBatch:
    def __init__(self, stepped: Stepped, batch: Batch) -> None:
        self._stepped, self._batch = stepped, batch
        self.ragged = batch.ragged
        self.join, self.leave, self.close = batch.join, batch.leave, batch.close

    def step(self, tokens: Sequence[Sequence[int]]) -> Floats:
        self._stepped.wait("step")
        logits = self._batch.step(tokens)
        self._stepped.passed()
        return logits


@contextmanager
def engine(
    forward: Forward, on_dead: Any = None, account: MemoryAccount | None = None, **limits: int
) -> Iterator[HfEngine]:
    """A running engine with the forward of a model, or a Stepped one."""
    on_dead = on_dead or (lambda error: None)
    bounds = {"max_batch": 8, "max_waiting": 64, "prefill_tokens": 32}
    account = account or MemoryBudget(1 << 30).open(0)
    running = HfEngine(
        NAME, forward, EngineLimits(**{**bounds, **limits}), account, [5, 6], on_dead
    )
    try:
        yield running
    finally:
        if isinstance(forward, Stepped):
            forward.go()
        running.close()


def settle(running: HfEngine) -> None:
    """Wait until no request runs or waits."""
    ended = threading.Event()
    while (load := running.load()).running or load.waiting:
        assert not ended.wait(0.002)


def taken(running: HfEngine) -> None:
    """Wait until no request waits. Running ones may be held by Stepped."""
    ended = threading.Event()
    while running.load().waiting:
        assert not ended.wait(0.002)


class DrivenScoring:
    """One scoring job in an engine."""

    def __init__(self, loaded: LoadedModel, running: HfEngine, prompt: str, *texts: str) -> None:
        self._results: queue.Queue[Scored | BaseException] = queue.Queue()
        self.job: ScoringJob = prepare_scoring(
            loaded,
            ScoringRequest(NAME, prompt, tuple(map(Continuation, texts))),
            self._results.put,
        )
        running.submit(self.job)

    @property
    def silent(self) -> bool:
        return self._results.empty()

    def result(self) -> Scored:
        result = self._results.get(timeout=PATIENCE)
        if isinstance(result, BaseException):
            raise result
        return result

    def sums(self) -> list[float]:
        return [text.logprob for text in self.result().continuations]
