"""The order of the engine's passes, observed one pass at a time."""

from __future__ import annotations

import math
import queue

import pytest

from arena_llm.types import Choices, FinishReason, Regex, ReturnOptions
from services.common.errors import ContextTooLong, Overloaded
from services.hf.budget import MemoryBudget
from services.hf.loading import LoadedModel
from services.hf.openvino.forward import PagedForward
from tests.unit.hf.engine_driver import (
    LONG,
    SHORT,
    DrivenRequest,
    DrivenScoring,
    Stepped,
    engine,
    request,
    settle,
)


def test_a_short_request_completes_while_a_long_one_runs(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped) as running:
        long = DrivenRequest(loaded, running, LONG)
        stepped.let(4)  # the prompt, and three steps
        short = DrivenRequest(loaded, running, SHORT)
        stepped.let(3)
        assert short.completion().usage.completion_tokens == 2
        assert long.sequence.generated < 10
        stepped.go()
        assert long.completion().usage.completion_tokens == 40


def test_a_burst_is_read_before_it_is_decoded(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped, prefill_tokens=1) as running:  # one prompt per pass
        _burst = [DrivenRequest(loaded, running, LONG) for _ in range(8)]
        stepped.let(7)
        # The engine only reads while more requests wait than run, then it alternates.
        assert stepped.passes == [*["prefill"] * 4, "step", "prefill", "step"]


def test_requests_that_never_join_do_not_stop_a_running_one(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped, prefill_tokens=1) as running:  # one prompt per pass
        DrivenRequest(loaded, running, LONG)
        stepped.let(3)
        _choices = [DrivenRequest(loaded, running, request("7", max_tokens=1)) for _ in range(8)]
        stepped.let(8)
        assert stepped.passes[3:].count("step") >= 4


def test_a_waiting_request_does_not_stop_running_ones(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped, max_batch=1) as running:
        _queue = [DrivenRequest(loaded, running, LONG) for _ in range(4)]
        stepped.let(3)
        assert stepped.passes == ["prefill", "step", "step"]


def test_scoring_does_not_stop_running_rows(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped, max_batch=1) as running:
        DrivenRequest(loaded, running, LONG)
        stepped.let(1)
        DrivenScoring(loaded, running, "7", "88 88", "99")
        _queue = [DrivenRequest(loaded, running, LONG) for _ in range(4)]
        stepped.let(4)
        assert stepped.passes[1:] == ["step", "score", "step", "score"]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_completion_is_the_same_alone_and_in_a_full_batch(
    loaded: LoadedModel, temperature: float
) -> None:
    generation = [
        request(f"{seed} " * (1 + seed % 11), max_tokens=12, seed=seed, temperature=temperature)
        for seed in range(1, 33)
    ]
    alone = []
    with engine(loaded.forward) as running:
        for driven in generation:
            alone.append(DrivenRequest(loaded, running, driven).completion().text)
    with engine(loaded.forward, max_batch=32, prefill_tokens=64) as running:
        requests = [DrivenRequest(loaded, running, driven) for driven in generation]
        together = [driven.completion().text for driven in requests]
    assert together == alone
    assert len(set(alone)) > 20


def test_each_row_keeps_its_own_parameters(loaded: LoadedModel) -> None:
    free = request("7", max_tokens=30, temperature=0.0)
    with engine(loaded.forward) as running:
        whole = DrivenRequest(loaded, running, free).completion().text
        stop = whole[5:8]
        requests = [
            DrivenRequest(loaded, running, driven)
            for driven in (
                free,
                request("7", max_tokens=30, temperature=0.0, stop=(stop,)),
                request("7", returns=ReturnOptions(top_logprobs=2), max_tokens=3, temperature=0.0),
                request("7", Choices(("4", "44")), seed=1),
                request("7", max_tokens=30, seed=1, temperature=2.0),
            )
        ]
        free_again, stopped, cut, choice, hot = [driven.completion() for driven in requests]
    assert free_again.text == whole
    assert (stopped.text, stopped.finish_reason) == (whole.partition(stop)[0], FinishReason.STOP)
    assert (cut.finish_reason, cut.usage.completion_tokens) == (FinishReason.LENGTH, 3)
    trace = cut.completion_tokens
    assert trace is not None
    assert [len(token.top) for token in trace] == [2, 2, 2]
    assert [token.logprob for token in trace] == [token.top[0].logprob for token in trace]
    assert choice.text in ("4", "44")
    assert hot.text != whole


def test_a_cancelled_request_leaves_at_the_next_step(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped) as running:
        leaving, staying = (
            DrivenRequest(loaded, running, LONG),
            DrivenRequest(loaded, running, LONG),
        )
        stepped.let(4)
        leaving.sequence.cancel()
        stepped.let(2)  # the pass that may have begun already, and the next one
        stepped.stand()
        before, generated = leaving.sequence.generated, running.load().generated_tokens
        stepped.let(5)
        stepped.stand()
        assert leaving.sequence.generated == before
        assert running.load().generated_tokens == generated + 5
        assert running.load().running == 1
        staying.sequence.cancel()
        stepped.go()
        settle(running)


def test_a_request_cancelled_while_it_waits_is_never_read(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped, max_batch=2) as running:
        requests = [DrivenRequest(loaded, running, SHORT)]
        stepped.let(1)
        stepped.stand()  # otherwise the engine might take the next one before it is cancelled
        # These two are read together only if the cancelled request frees its place.
        requests += [
            DrivenRequest(loaded, running, request(text, max_tokens=2)) for text in "54321"
        ]
        for driven in requests[1::2]:
            driven.sequence.cancel()
        stepped.go()
        for driven in requests[0::2]:
            driven.completion()
        settle(running)
        assert stepped.read == [driven.sequence.prompt for driven in requests[0::2]]
        assert all(driven.silent for driven in requests[1::2])


def test_a_request_cancelled_while_its_prompt_is_read_stops_there(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped) as running:
        requests = DrivenRequest(loaded, running, request("7" * 400))  # 10 passes of 40 tokens
        stepped.let(3)
        requests.sequence.cancel()
        stepped.let(1)  # the pass that may have begun already
        settle(running)
        assert running.load().generated_tokens == 0
        assert requests.silent, "it was left, it did not fail"


def test_decoding_continues_between_the_passes_of_a_long_prompt(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped) as running:
        decoding = DrivenRequest(loaded, running, LONG)
        stepped.let(2)
        reading = DrivenRequest(loaded, running, request("7" * 400))
        stepped.let(12)
        assert reading.sequence.generated == 0
        assert decoding.sequence.generated >= 6


def test_scoring_takes_turns_with_decoding(loaded: LoadedModel, stepped: Stepped) -> None:
    texts = [f"{first} {second}" for first in range(8) for second in range(8)]
    with engine(stepped) as running:
        decoding = DrivenRequest(loaded, running, LONG)
        stepped.let(2)
        scored = DrivenScoring(loaded, running, "Choose", *texts)
        stepped.let(8)
        assert decoding.sequence.generated >= 5
        stepped.go()
        sums = scored.sums()
        assert decoding.completion().usage.completion_tokens == 40
    assert len(sums) == 64
    assert all(logprob < 0 and math.isfinite(logprob) for logprob in sums)


def test_a_cancelled_scoring_job_stops_after_its_pass(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped) as running:
        scored = DrivenScoring(loaded, running, "7" * 400, "1", "2")
        stepped.let(2)
        scored.job.cancel()
        stepped.let(1)
        settle(running)
        assert scored.silent


def test_a_full_queue_refuses_with_retry_after(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped, max_batch=1, max_waiting=2) as running:
        accepted = [DrivenRequest(loaded, running, SHORT)]
        stepped.let(1)
        accepted += [DrivenRequest(loaded, running, SHORT) for _ in range(2)]
        with pytest.raises(Overloaded, match="2 requests already wait") as caught:
            DrivenRequest(loaded, running, SHORT)
        assert caught.value.retry_after
        stepped.go()
        assert [driven.completion().usage.completion_tokens for driven in accepted] == [2, 2, 2]


def test_a_batch_stays_within_the_cache(loaded: LoadedModel, stepped: Stepped) -> None:
    account = MemoryBudget(stepped.cache_bytes([41] * 3)).open(0)  # a row of LONG takes 41
    assert account.most > 0
    with engine(stepped, account=account) as running:
        requests = [DrivenRequest(loaded, running, LONG) for _ in range(5)]
        stepped.let(8)
        assert [driven.sequence.generated > 0 for driven in requests] == [
            True,
            True,
            True,
            False,
            False,
        ]
        stepped.go()
        assert {driven.completion().usage.completion_tokens for driven in requests} == {40}


def test_what_can_never_fit_is_refused_with_the_figures(loaded: LoadedModel) -> None:
    budget = MemoryBudget(loaded.forward.cache_bytes([60]) + 1000)
    with engine(loaded.forward, account=budget.open(1000)) as running:
        with pytest.raises(ContextTooLong, match=r"up to 101 tokens .* GB .*memory_budget_gb"):
            DrivenRequest(loaded, running, request("7", Regex("[78]{90}"), max_tokens=100))
        with pytest.raises(ContextTooLong):
            DrivenScoring(loaded, running, "7", "8" * 100)
        assert DrivenRequest(loaded, running, SHORT).completion().usage.completion_tokens == 2


def test_memory_that_ended_rows_have_left_keeps_no_request_waiting(loaded: LoadedModel) -> None:
    forward = loaded.forward
    if isinstance(forward, PagedForward):
        forward._pool.release(forward._pool.take(forward._pool.available))
    budget = MemoryBudget(forward.cache_bytes([41]))
    with engine(forward, account=budget.open(0)) as running:
        completion = DrivenRequest(loaded, running, LONG).completion()
    assert completion.usage.completion_tokens == 40


def test_memory_that_another_model_uses_is_waited_for(loaded: LoadedModel) -> None:
    budget = MemoryBudget(loaded.forward.cache_bytes([41]))
    other = budget.open(0)
    assert other.resize(budget.total)
    with engine(loaded.forward, account=budget.open(0)) as running:
        driven = DrivenRequest(loaded, running, LONG)
        scoring = DrivenScoring(loaded, running, "7", "8", "89")
        with pytest.raises(queue.Empty):
            driven._events.get(timeout=0.2)
        assert running.load().waiting == 2
        other.close()
        assert driven.completion().usage.completion_tokens == 40
        assert len(scoring.sums()) == 2
        settle(running)
    assert budget.free >= budget.total - loaded.forward.held_bytes
