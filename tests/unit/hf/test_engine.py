"""The engine's turns, seen one pass at a time."""

from __future__ import annotations

import math

import pytest

from arena_llm.types import Choices, FinishReason
from services.common.errors import Overloaded
from services.hf.loading import LoadedModel
from tests.unit.hf.asking import (
    LONG,
    SHORT,
    Asked,
    Scored,
    Stepped,
    engine,
    request,
    settle,
)


def test_a_short_request_comes_and_goes_while_a_long_one_runs(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped) as running:
        long = Asked(loaded, running, LONG)
        stepped.let(4)  # the prompt, and three steps
        short = Asked(loaded, running, SHORT)
        stepped.let(3)
        assert short.completion().usage.completion_tokens == 2
        assert long.sequence.generated < 10
        stepped.go()
        assert long.completion().usage.completion_tokens == 40


def test_a_burst_is_read_before_it_is_decoded(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped, prefill_tokens=1) as running:  # one prompt a pass
        _burst = [Asked(loaded, running, LONG) for _ in range(8)]
        stepped.let(7)
        # Until no more wait than run; from then on in turns.
        assert stepped.passes == [*["prefill"] * 4, "step", "prefill", "step"]


def test_a_queue_that_finds_no_place_holds_nobody_up(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped, max_batch=1) as running:
        _queue = [Asked(loaded, running, LONG) for _ in range(4)]
        stepped.let(3)
        assert stepped.passes == ["prefill", "step", "step"]


def test_scoring_holds_no_running_row_up(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped, max_batch=1) as running:
        Asked(loaded, running, LONG)
        stepped.let(1)
        Scored(loaded, running, "7", "88 88", "99")
        _queue = [Asked(loaded, running, LONG) for _ in range(4)]
        stepped.let(4)
        assert stepped.passes[1:] == ["step", "score", "step", "score"]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_request_answers_the_same_alone_and_in_a_full_batch(
    loaded: LoadedModel, temperature: float
) -> None:
    wanted = [
        request(f"{seed} " * (1 + seed % 11), max_tokens=12, seed=seed, temperature=temperature)
        for seed in range(1, 33)
    ]
    alone = []
    with engine(loaded.forward) as running:
        for one in wanted:
            alone.append(Asked(loaded, running, one).completion().text)
    with engine(loaded.forward, max_batch=32, prefill_tokens=64) as running:
        asked = [Asked(loaded, running, one) for one in wanted]
        together = [one.completion().text for one in asked]
    assert together == alone
    assert len(set(alone)) > 20


def test_each_row_keeps_its_own_parameters(loaded: LoadedModel) -> None:
    free = request("7", max_tokens=30, temperature=0.0)
    with engine(loaded.forward) as running:
        whole = Asked(loaded, running, free).completion().text
        stop = whole[5:8]
        asked = [
            Asked(loaded, running, one)
            for one in (
                free,
                request("7", max_tokens=30, temperature=0.0, stop=(stop,)),
                request("7", max_tokens=3, temperature=0.0, logprobs=2),
                request("7", Choices(("4", "44")), seed=1),
                request("7", max_tokens=30, seed=1, temperature=2.0),
            )
        ]
        free_again, stopped, cut, choice, hot = [one.completion() for one in asked]
    assert free_again.text == whole
    assert (stopped.text, stopped.finish_reason) == (whole.partition(stop)[0], FinishReason.STOP)
    assert (cut.finish_reason, cut.usage.completion_tokens) == (FinishReason.LENGTH, 3)
    assert [len(told.top) for told in cut.logprobs] == [2, 2, 2]
    assert [told.logprob for told in cut.logprobs] == [told.top[0].logprob for told in cut.logprobs]
    assert choice.text in ("4", "44")
    assert hot.text != whole


def test_a_cancelled_request_leaves_at_the_next_step(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped) as running:
        leaving, staying = Asked(loaded, running, LONG), Asked(loaded, running, LONG)
        stepped.let(4)
        leaving.sequence.cancel()
        stepped.let(2)  # the one that may have begun already, and the next
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
        asked = [Asked(loaded, running, SHORT)]
        stepped.let(1)
        # Two that would be read together, were it not for the cancelled one's place.
        asked += [Asked(loaded, running, request(text, max_tokens=2)) for text in "54321"]
        for one in asked[1::2]:
            one.sequence.cancel()
        stepped.go()
        for one in asked[0::2]:
            one.completion()
        settle(running)
        assert stepped.read == [one.sequence.prompt for one in asked[0::2]]
        assert all(one.silent for one in asked[1::2])


def test_a_request_cancelled_while_its_prompt_is_read_stops_there(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped) as running:
        asked = Asked(loaded, running, request("7" * 400))  # 10 passes of 40 tokens
        stepped.let(3)
        asked.sequence.cancel()
        stepped.let(1)  # the one that may have begun already
        settle(running)
        assert running.load().generated_tokens == 0
        assert asked.silent, "it was left, it did not fail"


def test_decoding_goes_on_between_the_passes_of_a_long_prompt(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped) as running:
        decoding = Asked(loaded, running, LONG)
        stepped.let(2)
        reading = Asked(loaded, running, request("7" * 400))
        stepped.let(12)
        assert reading.sequence.generated == 0
        assert decoding.sequence.generated >= 6


def test_scoring_takes_turns_with_decoding(loaded: LoadedModel, stepped: Stepped) -> None:
    texts = [f"{first} {second}" for first in range(8) for second in range(8)]
    with engine(stepped) as running:
        decoding = Asked(loaded, running, LONG)
        stepped.let(2)
        scored = Scored(loaded, running, "Choose", *texts)
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
        scored = Scored(loaded, running, "7" * 400, "1", "2")
        stepped.let(2)
        scored.job.cancel()
        stepped.let(1)
        settle(running)
        assert scored.silent


def test_a_full_queue_refuses_with_a_time_to_come_back(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped, max_batch=1, max_waiting=2) as running:
        accepted = [Asked(loaded, running, SHORT)]
        stepped.let(1)
        accepted += [Asked(loaded, running, SHORT) for _ in range(2)]
        with pytest.raises(Overloaded, match="2 requests wait") as caught:
            Asked(loaded, running, SHORT)
        assert caught.value.retry_after
        stepped.go()
        assert [one.completion().usage.completion_tokens for one in accepted] == [2, 2, 2]


def test_a_batch_takes_no_more_than_the_cache_has_room_for(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped, max_cache_tokens=3 * 41) as running:  # a row of LONG takes 41
        asked = [Asked(loaded, running, LONG) for _ in range(5)]
        stepped.let(8)
        assert [one.sequence.generated > 0 for one in asked] == [True, True, True, False, False]
        stepped.go()
        assert {one.completion().usage.completion_tokens for one in asked} == {40}


def test_a_request_larger_than_the_cache_runs_by_itself(loaded: LoadedModel) -> None:
    with engine(loaded.forward, max_cache_tokens=1) as running:
        asked = [Asked(loaded, running, SHORT) for _ in range(3)]
        assert [one.completion().usage.completion_tokens for one in asked] == [2, 2, 2]
