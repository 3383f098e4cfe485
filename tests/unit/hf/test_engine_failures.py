"""What a pass that fails, and the engine's end, mean for its requests."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress

import pytest

from arena_llm.types import Choices
from services.common.errors import InvalidRequest, UpstreamUnavailable
from services.hf.loading import LoadedModel
from tests.unit.hf.asking import (
    LONG,
    PATIENCE,
    SHORT,
    Asked,
    Stepped,
    engine,
    request,
)
from tests.unit.hf.conftest import Models


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
