"""What happens to requests if a pass fails or the engine ends."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress

import pytest
import torch

from arena_llm.types import Choices
from services.common.errors import (
    BackendError,
    InvalidRequest,
    ModelMisconfigured,
    Overloaded,
    UpstreamUnavailable,
)
from services.hf.loading import LoadedModel
from tests.unit.hf.conftest import Models
from tests.unit.hf.engine_driver import (
    LONG,
    PATIENCE,
    SHORT,
    DrivenRequest,
    Stepped,
    engine,
    request,
    taken,
)


def alone(loaded: LoadedModel, text: str) -> str:
    with engine(loaded.forward) as running:
        return (
            DrivenRequest(loaded, running, request(text, max_tokens=3, temperature=0))
            .completion()
            .text
        )


@pytest.mark.parametrize("broken", ["step", "prefill"])
def test_a_failed_pass_fails_only_its_own_requests(
    loaded: LoadedModel, stepped: Stepped, broken: str
) -> None:
    # With a batch of one, the second request is not in the failing step.
    with engine(stepped, max_batch=1 if broken == "step" else 2) as running:
        decoding = DrivenRequest(loaded, running, LONG)
        stepped.let(3)
        joining = DrivenRequest(loaded, running, SHORT)
        stepped.failing = [broken]
        stepped.go()
        failed, unhurt = (decoding, joining) if broken == "step" else (joining, decoding)
        with pytest.raises(UpstreamUnavailable, match=r"hf_tiny failed .*ArithmeticError"):
            failed.completion()
        unhurt.completion()
        assert DrivenRequest(loaded, running, SHORT).completion().usage.completion_tokens == 2


@pytest.mark.parametrize("at_fault", [0, 1, 2])
def test_prompts_that_fail_together_are_read_again_one_by_one(
    loaded: LoadedModel, stepped: Stepped, at_fault: int
) -> None:
    with engine(stepped, prefill_tokens=512) as running:
        first = DrivenRequest(loaded, running, request("9", max_tokens=1))
        taken(running)
        texts = ("1" * 60, "2" * 60, "3" * 60)
        requests = [
            DrivenRequest(loaded, running, request(text, max_tokens=3, temperature=0))
            for text in texts
        ]
        stepped.unreadable = loaded.reader.read(texts[at_fault])
        stepped.go()
        first.completion()
        for index, driven in enumerate(requests):
            if index == at_fault:
                with pytest.raises(UpstreamUnavailable):
                    driven.completion()
            else:
                assert driven.completion().text == alone(loaded, texts[index])
    assert stepped.groups[1] == 3
    assert set(stepped.groups[2:]) == {1}


def test_a_constraint_that_cannot_be_written_fails_only_its_row(model: Models) -> None:
    unigram = model("t5")
    with engine(unigram.forward) as running:
        unwritable = DrivenRequest(unigram, running, request("a", Choices(("yes😀",))))
        others = [
            DrivenRequest(unigram, running, request("a", Choices(("yes", "no")))) for _ in range(3)
        ]
        with pytest.raises(InvalidRequest, match="cannot write"):
            unwritable.completion()
        assert {driven.completion().text for driven in others} <= {"yes", "no"}


def test_a_model_that_cannot_read_its_test_prompt_ends_the_engine(
    loaded: LoadedModel, stepped: Stepped
) -> None:
    said: queue.Queue[BackendError] = queue.Queue()
    stepped.broken = {"prefill"}
    with engine(stepped, said.put) as running:
        requests = [DrivenRequest(loaded, running, SHORT) for _ in range(3)]
        stepped.go()
        for driven in requests:
            with pytest.raises(ModelMisconfigured, match=r"hf_tiny cannot run .*a pass is broken"):
                driven.completion()
        assert isinstance(said.get(timeout=PATIENCE), ModelMisconfigured)
        with pytest.raises(ModelMisconfigured, match="a pass is broken"):
            DrivenRequest(loaded, running, SHORT)
    assert said.empty()


def test_inputs_that_fail_do_not_end_the_engine(loaded: LoadedModel, stepped: Stepped) -> None:
    said: queue.Queue[BackendError] = queue.Queue()
    with engine(stepped, said.put) as running:
        stepped.go()
        for _ in range(6):
            stepped.failing = ["prefill"]
            with pytest.raises(UpstreamUnavailable):
                DrivenRequest(loaded, running, SHORT).completion()
        DrivenRequest(loaded, running, SHORT).completion()
    assert said.empty()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223:\nstd::bad_alloc"),
    ],
    ids=["memory", "torch on a GPU", "torch on a CPU", "OpenVINO"],
)
def test_running_out_of_memory_fails_only_the_call(
    loaded: LoadedModel, stepped: Stepped, error: Exception
) -> None:
    stepped.error = error
    stepped.broken = {"prefill"}
    with engine(stepped) as running:
        stepped.go()
        for _ in range(4):
            with pytest.raises(Overloaded, match="no memory left") as caught:
                DrivenRequest(loaded, running, SHORT).completion()
            assert caught.value.retry_after
        stepped.broken = set()
        DrivenRequest(loaded, running, SHORT).completion()


def test_an_error_of_the_engine_fails_all_requests(
    loaded: LoadedModel, stepped: Stepped, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine(stepped) as running:
        monkeypatch.setattr(running, "_contain", lambda failed, error: 1 / 0)
        stepped.broken = {"step"}
        requests = [DrivenRequest(loaded, running, SHORT) for _ in range(2)]
        stepped.go()
        with pytest.raises(ModelMisconfigured, match="ZeroDivisionError"):
            requests[1].completion()


def test_closing_fails_running_and_waiting_requests(loaded: LoadedModel, stepped: Stepped) -> None:
    with engine(stepped, max_batch=1) as running:
        requests = [DrivenRequest(loaded, running, LONG) for _ in range(3)]
        stepped.let(2)
        closing = threading.Thread(target=running.close)
        closing.start()
        with suppress(UpstreamUnavailable):
            while True:  # until the engine is closing
                requests.append(DrivenRequest(loaded, running, LONG))
        stepped.go()
        closing.join(PATIENCE)
        for driven in requests:
            with pytest.raises(UpstreamUnavailable, match="unloaded"):
                driven.completion()
