"""Work that the engine saves: shared prefixes, and tokens that a constraint forces."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from arena_llm.types import Choices, FinishReason, Regex, ReturnOptions
from services.hf.forward_causal import CausalForward
from services.hf.loading import LoadedModel
from tests.unit.hf.engine_driver import (
    LONG,
    PATIENCE,
    DrivenRequest,
    DrivenScoring,
    Stepped,
    engine,
    request,
    settle,
    taken,
)


def test_prompts_with_the_same_prefix_wait_for_the_first(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    with engine(stepped, prefill_tokens=512) as running:
        requests = [DrivenRequest(loaded, running, request("9", max_tokens=1))]
        taken(running)
        requests += [
            DrivenRequest(loaded, running, request("The board: " + "01" * 20 + end, max_tokens=1))
            for end in ("2", "3", "4", "5", "6")
        ]
        stepped.go()
        usages = [driven.completion().usage for driven in requests]
    assert stepped.groups == [1, 1, 4]
    common = usages[1].prompt_tokens - 1
    assert [usage.cached_tokens for usage in usages] == [0, 0, *[common] * 4]


def test_prompts_of_similar_length_are_read_together(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped, prefill_tokens=512) as running:
        requests = [DrivenRequest(loaded, running, request("9", max_tokens=1))]
        taken(running)
        requests += [
            DrivenRequest(loaded, running, request(text, max_tokens=1))
            for text in ("1" * 60, "2" * 4, "3" * 61, "4" * 5, "5" * 59)
        ]
        stepped.go()
        for driven in requests:
            driven.completion()
    assert stepped.groups == [1, 3, 2]


def test_a_repeated_prompt_comes_from_the_cache(loaded: LoadedModel, stepped: Stepped) -> None:
    generation = request("Your move? " * 9, max_tokens=12, temperature=0.0)
    with engine(stepped) as running:
        stepped.go()
        first, again = (DrivenRequest(loaded, running, generation).completion() for _ in range(2))
        scored = [DrivenScoring(loaded, running, "Your move? " * 9, "1", "23") for _ in range(2)]
        results = [driven.result() for driven in scored]
    tokens = first.usage.prompt_tokens
    assert (first.usage.cached_tokens, again.usage.cached_tokens) == (0, tokens - 1)
    assert again.text == first.text
    assert [result.cached for result in results] == [tokens - 1] * 2
    assert results[0].continuations == results[1].continuations


def test_a_prompt_cancelled_while_it_is_read_leaves_nothing_in_the_cache(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    generation = request("8" * 400, max_tokens=12, temperature=0.0)
    uncached = CausalForward(loaded.forward.model, 32)  # type: ignore[attr-defined]
    with engine(uncached) as running:
        expected = DrivenRequest(loaded, running, generation).completion().text
    with engine(stepped) as running:
        cancelled = DrivenRequest(loaded, running, generation)
        stepped.let(3)
        cancelled.sequence.cancel()
        stepped.go()
        settle(running)
        again = DrivenRequest(loaded, running, generation).completion()
    assert (again.text, again.usage.cached_tokens) == (expected, 0)


class Blocked:
    """Prefixes that are looked up only when a test allows it. looked_up: how many times."""

    unit = 16

    def __init__(self) -> None:
        self.entered, self.allowed = threading.Event(), threading.Event()
        self.looked_up = 0

    def count(self, tokens: Sequence[int]) -> int:
        self.looked_up += 1
        self.entered.set()
        assert self.allowed.wait(PATIENCE)
        return 0


def test_no_caller_waits_while_prompts_are_chosen(loaded: LoadedModel, stepped: Stepped) -> None:
    stepped.prefixes = blocked = Blocked()  # type: ignore[assignment]
    seen: list[int] = []
    with engine(stepped) as running:
        stepped.go()

        def call() -> None:
            seen.append(running.load().waiting)
            requests.append(DrivenRequest(loaded, running, request("8", max_tokens=1)))
            seen.append(running.load().waiting)

        requests = [DrivenRequest(loaded, running, request("7", max_tokens=1))]
        assert blocked.entered.wait(PATIENCE)
        caller = threading.Thread(target=call, daemon=True)
        caller.start()
        caller.join(5)
        blocked.allowed.set()
        caller.join(PATIENCE)
        assert seen == [1, 2], "they were answered while the engine was choosing"
        for driven in requests:
            driven.completion()


def test_a_long_queue_is_not_compared_as_a_whole(loaded: LoadedModel, stepped: Stepped) -> None:
    stepped.prefixes = blocked = Blocked()  # type: ignore[assignment]
    blocked.allowed.set()
    with engine(stepped, max_waiting=300, prefill_tokens=512) as running:
        first = DrivenRequest(loaded, running, LONG)
        taken(running)
        blocked.looked_up = 0
        # They begin equally, so each waits for the one before it.
        same = [
            DrivenRequest(loaded, running, request("The same board. " * 3, max_tokens=1))
            for _ in range(200)
        ]
        stepped.let(3)
        assert 0 < blocked.looked_up <= 64 * len(stepped.groups) < 200 * 2
        for driven in [first, *same]:
            driven.sequence.cancel()


MOVES = Choices(tuple(f"x({row},{column})" for row in (0, 1) for column in (0, 1)))


def test_forced_tokens_take_no_pass(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped) as running:
        stepped.go()
        with_logprobs = DrivenRequest(
            loaded, running, request("7", MOVES, ReturnOptions(top_logprobs=0), seed=3)
        ).completion()
        slow = list(stepped.passes)
        stepped.passes.clear()
        move = DrivenRequest(loaded, running, request("7", MOVES, seed=3)).completion()
    # One pass for each free choice: the digits of the row and of the column.
    assert stepped.passes == ["prefill", "step"]
    trace = with_logprobs.completion_tokens
    assert trace is not None
    assert slow == ["prefill", *["step"] * (len(trace) - 1)]
    assert len(trace) == with_logprobs.usage.completion_tokens > 4
    assert all(logprob < 0 for logprob in trace.logprobs)
    assert (move.text, move.usage.completion_tokens) == (
        with_logprobs.text,
        with_logprobs.usage.completion_tokens,
    )
    assert move.text in MOVES.values


def test_a_fully_forced_completion_takes_no_pass(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped) as running:
        stepped.go()
        move = DrivenRequest(loaded, running, request("7", Choices(("x(0,1)",)))).completion()
        cut = DrivenRequest(
            loaded, running, request("7", Regex("8{900}"), max_tokens=5)
        ).completion()
    assert stepped.passes == []
    assert (move.text, move.finish_reason) == ("x(0,1)", FinishReason.STOP)
    assert (cut.usage.completion_tokens, cut.finish_reason) == (5, FinishReason.LENGTH)


def test_forced_and_free_rows_run_together(loaded: LoadedModel) -> None:
    moves = [request(f"{seed} ", MOVES, seed=seed) for seed in range(8)]
    generation = [request("7", max_tokens=12, temperature=0.0), *moves]
    with engine(loaded.forward) as running:
        alone = [DrivenRequest(loaded, running, driven).completion().text for driven in generation]
        requests = [DrivenRequest(loaded, running, driven) for driven in generation]
        assert [driven.completion().text for driven in requests] == alone
    assert len(set(alone[1:])) > 1
