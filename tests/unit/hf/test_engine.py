"""The engine's turns, seen one pass at a time."""

from __future__ import annotations

import math
import queue
import threading
from contextlib import suppress

import pytest

from arena_llm.types import Choices, FinishReason, Regex, ScoringRequest
from services.common.errors import InvalidRequest, Overloaded, UpstreamUnavailable
from services.hf.engine import Engine
from services.hf.forward import CausalForward
from services.hf.loading import LoadedModel
from services.hf.prompt import prepare_scoring
from services.hf.scoring import ScoringJob
from tests.unit.hf.asking import NAME, PATIENCE, Asked, Stepped, engine, request
from tests.unit.hf.conftest import Models

#: Texts that cannot end before max_tokens.
SHORT = request("7", Regex("[78]{90}"), max_tokens=2)
LONG = request("8", Regex("[89]{900}"), max_tokens=40)


@pytest.fixture
def loaded(model: Models) -> LoadedModel:
    return model("llama")


@pytest.fixture
def stepped(loaded: LoadedModel) -> Stepped:
    """With a prefix cache of its own, of about 1000 tokens."""
    return Stepped(CausalForward(loaded.forward.model, 32, 500_000))  # type: ignore[attr-defined]


def settle(running: Engine) -> None:
    """Wait until nothing runs and nothing waits."""
    ended = threading.Event()
    while (load := running.load()).running or load.waiting:
        assert not ended.wait(0.002)


def taken(running: Engine) -> None:
    """Wait until nothing waits; what runs may be held."""
    ended = threading.Event()
    while running.load().waiting:
        assert not ended.wait(0.002)


class Scored:
    """One scoring job in an engine."""

    def __init__(self, loaded: LoadedModel, running: Engine, prompt: str, *texts: str) -> None:
        self._results: queue.Queue[list[float] | BaseException] = queue.Queue()
        self.job: ScoringJob = prepare_scoring(
            loaded, ScoringRequest(NAME, prompt, texts), self._results.put
        )
        running.submit(self.job)

    @property
    def silent(self) -> bool:
        return self._results.empty()

    def sums(self) -> list[float]:
        result = self._results.get(timeout=PATIENCE)
        if isinstance(result, BaseException):
            raise result
        return result


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


def test_prompts_that_begin_alike_wait_for_the_first(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped, prefill_tokens=512) as running:
        asked = [Asked(loaded, running, request("9", max_tokens=1))]
        taken(running)
        asked += [
            Asked(loaded, running, request("The board: " + "01" * 20 + end, max_tokens=1))
            for end in ("2", "3", "4", "5", "6")
        ]
        stepped.go()
        usages = [one.completion().usage for one in asked]
    assert stepped.groups == [1, 1, 4]
    common = usages[1].prompt_tokens - 1
    assert [usage.cached_tokens for usage in usages] == [0, 0, *[common] * 4]


def test_prompts_of_like_length_are_read_together(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped, prefill_tokens=512) as running:
        asked = [Asked(loaded, running, request("9", max_tokens=1))]
        taken(running)
        asked += [
            Asked(loaded, running, request(text, max_tokens=1))
            for text in ("1" * 60, "2" * 4, "3" * 61, "4" * 5, "5" * 59)
        ]
        stepped.go()
        for one in asked:
            one.completion()
    assert stepped.groups == [1, 3, 2]


def test_a_repeated_prompt_comes_from_the_cache(loaded: LoadedModel, stepped: Stepped) -> None:
    wanted = request("Your move? " * 9, max_tokens=12, temperature=0.0)
    with engine(stepped) as running:
        stepped.go()
        first, again = (Asked(loaded, running, wanted).completion() for _ in range(2))
        scored = [Scored(loaded, running, "Your move? " * 9, "1", "23") for _ in range(2)]
        sums = [one.sums() for one in scored]
    tokens = first.usage.prompt_tokens
    assert (first.usage.cached_tokens, again.usage.cached_tokens) == (0, tokens - 1)
    assert again.text == first.text
    assert [one.job.cached for one in scored] == [tokens - 1] * 2
    assert sums[0] == sums[1]


def test_a_prompt_cancelled_while_it_is_read_leaves_nothing_in_the_cache(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    wanted = request("8" * 400, max_tokens=12, temperature=0.0)
    uncached = CausalForward(loaded.forward.model, 32)  # type: ignore[attr-defined]
    with engine(uncached) as running:
        expected = Asked(loaded, running, wanted).completion().text
    with engine(stepped) as running:
        cancelled = Asked(loaded, running, wanted)
        stepped.let(3)
        cancelled.sequence.cancel()
        stepped.go()
        settle(running)
        again = Asked(loaded, running, wanted).completion()
    assert (again.text, again.usage.cached_tokens) == (expected, 0)


MOVES = Choices(tuple(f"x({row},{column})" for row in (0, 1) for column in (0, 1)))


def test_forced_tokens_take_no_pass_of_their_own(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped) as running:
        stepped.go()
        told = Asked(loaded, running, request("7", MOVES, seed=3, logprobs=0)).completion()
        slow = list(stepped.passes)
        stepped.passes.clear()
        move = Asked(loaded, running, request("7", MOVES, seed=3)).completion()
    # One for each choice that there is: the row's and the column's digit.
    assert stepped.passes == ["prefill", "step"]
    assert slow == ["prefill", *["step"] * (len(told.logprobs) - 1)]
    assert len(told.logprobs) == told.usage.completion_tokens > 4
    assert all(one.logprob < 0 for one in told.logprobs)
    assert (move.text, move.usage.completion_tokens) == (told.text, told.usage.completion_tokens)
    assert move.text in MOVES.values


def test_what_leaves_no_choice_takes_no_pass(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped) as running:
        stepped.go()
        move = Asked(loaded, running, request("7", Choices(("x(0,1)",)))).completion()
        cut = Asked(loaded, running, request("7", Regex("8{900}"), max_tokens=5)).completion()
    assert stepped.passes == []
    assert (move.text, move.finish_reason) == ("x(0,1)", FinishReason.STOP)
    assert (cut.usage.completion_tokens, cut.finish_reason) == (5, FinishReason.LENGTH)


def test_forced_and_free_rows_run_together(loaded: LoadedModel) -> None:
    moves = [request(f"{seed} ", MOVES, seed=seed) for seed in range(8)]
    wanted = [request("7", max_tokens=12, temperature=0.0), *moves]
    with engine(loaded.forward) as running:
        alone = [Asked(loaded, running, one).completion().text for one in wanted]
        asked = [Asked(loaded, running, one) for one in wanted]
        assert [one.completion().text for one in asked] == alone
    assert len(set(alone[1:])) > 1


@pytest.mark.parametrize("broken", ["step", "prefill"])
def test_a_broken_pass_fails_those_it_concerns_and_no_others(
    loaded: LoadedModel, stepped: Stepped, broken: str
) -> None:
    # In a batch of one, the second request is not in the step that breaks.
    with engine(stepped, max_batch=1 if broken == "step" else 2) as running:
        decoding = Asked(loaded, running, LONG)
        stepped.let(3)
        stepped.broken = {broken}
        joining = Asked(loaded, running, SHORT)
        stepped.let(2)
        stepped.broken.clear()
        failed, unhurt = (decoding, joining) if broken == "step" else (joining, decoding)
        stepped.go()
        with pytest.raises(ArithmeticError):
            failed.completion()
        unhurt.completion()
        assert Asked(loaded, running, SHORT).completion().usage.completion_tokens == 2


def test_an_unwritable_constraint_fails_its_own_row_only(model: Models) -> None:
    unigram = model("t5")
    with engine(unigram.forward) as running:
        unwritable = Asked(unigram, running, request("a", Choices(("yes😀",))))
        others = [Asked(unigram, running, request("a", Choices(("yes", "no")))) for _ in range(3)]
        with pytest.raises(InvalidRequest, match="cannot write"):
            unwritable.completion()
        assert {one.completion().text for one in others} <= {"yes", "no"}


def test_three_failures_in_a_row_end_the_engine(loaded: LoadedModel, stepped: Stepped) -> None:
    said: queue.Queue[str] = queue.Queue()
    stepped.broken = {"prefill"}
    with engine(stepped, said.put) as running:
        stepped.go()
        for _ in range(3):
            assert said.empty()
            with pytest.raises(ArithmeticError):
                Asked(loaded, running, SHORT).completion()
        assert "ArithmeticError" in said.get(timeout=PATIENCE)


def test_failures_apart_do_not_add_up(loaded: LoadedModel, stepped: Stepped) -> None:
    said: queue.Queue[str] = queue.Queue()
    with engine(stepped, said.put) as running:
        stepped.go()
        for _ in range(4):
            stepped.broken = {"prefill"}
            with pytest.raises(ArithmeticError):
                Asked(loaded, running, SHORT).completion()
            stepped.broken = set()
            Asked(loaded, running, SHORT).completion()
        assert said.empty()


def test_closing_fails_what_runs_and_what_waits(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped, max_batch=1) as running:
        asked = [Asked(loaded, running, LONG) for _ in range(3)]
        stepped.let(2)
        closing = threading.Thread(target=running.close)
        closing.start()
        with suppress(UpstreamUnavailable):
            while True:  # until it is closing
                asked.append(Asked(loaded, running, LONG))
        stepped.go()
        closing.join(PATIENCE)
        for one in asked:
            with pytest.raises(UpstreamUnavailable, match="unloaded"):
                one.completion()
