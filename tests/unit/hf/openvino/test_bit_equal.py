"""A request gets the same log-probabilities, bit by bit, alone and among any others."""

from __future__ import annotations

import random

import pytest

from arena_llm.types import Choices, Completion, GenerationRequest, Regex, ReturnOptions
from services.hf.loading import LoadedModel
from tests.unit.hf.conftest import Checkpoints
from tests.unit.hf.engine_driver import DrivenRequest, DrivenScoring, engine, load_tiny
from tests.unit.hf.engine_driver import request as generation

WORDS = ["the", "board", "is empty", "choose", "a", "move", "yes", "or", "no", *"012345678"]
MOVES = Choices(tuple(f"x({row},{column})" for row in range(3) for column in range(3)))
LOGPROBS = ReturnOptions(top_logprobs=3)


def make(index: int) -> GenerationRequest:
    """One of 100 requests: greedy, drawn, choices, a pattern; prompts of 3 to 400 tokens."""
    draw = random.Random(index)  # noqa: S311 - test data
    text = " ".join(draw.choice(WORDS) for _ in range(draw.choice([1, 3, 10, 30, 60, 90])))
    match index % 5:
        case 0:
            return generation(text, returns=LOGPROBS, max_tokens=6, temperature=0.0)
        case 1:
            return generation(text, returns=LOGPROBS, max_tokens=12, seed=index)
        case 2:
            choices = Choices(("1", "12", "123 4", "yes or no"))
            return generation(text, choices, LOGPROBS, seed=index)
        case 3:
            return generation(text, Regex("[a-e]{3,9}x"), LOGPROBS, max_tokens=12, seed=index)
        case _:
            return generation(text, MOVES, seed=index)


def bits(completion: Completion) -> object:
    trace = completion.completion_tokens
    return completion.text, trace and (trace.ids, trace.logprobs, trace.top_logprobs)


@pytest.fixture(scope="module", params=["exact", "fast"])
def loaded(checkpoint: Checkpoints, request: pytest.FixtureRequest) -> LoadedModel:
    return load_tiny(checkpoint("llama"), engine="openvino", precision=request.param)


@pytest.fixture(scope="module")
def alone(loaded: LoadedModel) -> list[object]:
    """The results one after the other, each prompt read without a prefix cache."""
    with engine(loaded.forward.uncached()) as running:
        return [
            bits(DrivenRequest(loaded, running, make(index)).completion()) for index in range(100)
        ]


@pytest.mark.parametrize("others", [1, 2, 8, 32])
def test_company_changes_no_bit(loaded: LoadedModel, alone: list[object], others: int) -> None:
    order = list(range(100))
    random.Random(others).shuffle(order)  # noqa: S311 - test data
    with engine(loaded.forward, max_batch=64, prefill_tokens=64) as running:
        for begin in range(0, 100, others + 1):
            group = order[begin : begin + others + 1]
            driven = [(index, DrivenRequest(loaded, running, make(index))) for index in group]
            scoring = DrivenScoring(loaded, running, "Your turn? " * 9, "1", "yes or no", "8 7")
            for index, one in driven:
                assert bits(one.completion()) == alone[index]
            scoring.result()


def test_company_changes_no_bit_of_a_score(loaded: LoadedModel) -> None:
    texts = ("1", "yes or no", "8 7 6 5", "x(1,2)")
    with engine(loaded.forward.uncached()) as running:
        first = DrivenScoring(loaded, running, "Your turn? " * 9, *texts).result()
    with engine(loaded.forward, max_batch=64) as running:
        driven = [DrivenRequest(loaded, running, make(index)) for index in range(20)]
        again = [DrivenScoring(loaded, running, "Your turn? " * 9, *texts) for _ in range(3)]
        for scoring in again:
            assert scoring.result().continuations == first.continuations
        for one in driven:
            one.completion()
