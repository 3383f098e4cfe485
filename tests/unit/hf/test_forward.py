"""Batching, late joining and chunked prompts do not change the results of any architecture."""

from __future__ import annotations

import pytest
import torch

from services.hf.forward import Forward, ScoringTask
from services.hf.loading import LoadedModel
from tests.support.tiny_models import ARCHITECTURES
from tests.unit.hf.conftest import Models
from tests.unit.hf.engine_driver import finished

NEW = 24
_random = torch.Generator().manual_seed(1)
#: Lengths from one token to more than two passes of 32, and over sliding windows of 16.
PROMPTS = [torch.randint(5, 80, (n,), generator=_random).tolist() for n in (5, 40, 17, 70, 1, 33)]
CONTINUATIONS = [[7, 8, 9], [10], [11, 12], [9, 9, 9, 9, 9], *([i, i + 1] for i in range(20, 60))]


#: Full attention, a sliding window, and learned positions.
EXPORTED = ("llama", "mistral", "gpt2")


@pytest.fixture(
    params=[(name, "transformers") for name in ARCHITECTURES]
    + [(name, "openvino") for name in EXPORTED],
    ids="-".join,
)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An architecture, and the engine that runs it."""
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def plain_model(model: Models, case: tuple[str, str]) -> LoadedModel:
    return model(case[0])


@pytest.fixture
def loaded(model: Models, case: tuple[str, str]) -> LoadedModel:
    return model(*case)


def alone(loaded: LoadedModel, prompt: list[int]) -> list[int]:
    """The tokens that transformers' own `generate` returns."""
    output = loaded.forward.model.generate(  # type: ignore[attr-defined]
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return list(output[0, 1 if loaded.reader.encoder_decoder else len(prompt) :].tolist())


class GreedyBatch:
    """The prompt numbers of the rows of a running batch."""

    def __init__(self, forward: Forward, prompts: list[list[int]] = PROMPTS) -> None:
        self._forward, self._batch = forward, forward.new_batch()
        self._prompts = prompts
        self.cached: dict[int, int] = {}
        self.rows: list[int] = []
        self.tokens: dict[int, list[int]] = {}

    def join(self, *numbers: int) -> None:
        read = finished(self._forward.prefill([self._prompts[number] for number in numbers]))
        for number, prefilled in zip(numbers, read, strict=True):
            self.tokens[number] = [int(prefilled.logits.argmax())]
            self.cached[number] = prefilled.cached
            self.rows.append(number)
        self._batch.join(read)

    def leave(self, number: int) -> None:
        row, last = self.rows.index(number), self.rows.pop()
        self._batch.leave(row)
        if row < len(self.rows):
            self.rows[row] = last

    def steps(self, count: int) -> None:
        for _ in range(count):
            logits = self._batch.step([self.tokens[number][-1:] for number in self.rows])
            for number, row in zip(list(self.rows), logits, strict=True):
                self.tokens[number].append(int(row.argmax()))
            for number in [n for n in self.rows if len(self.tokens[n]) == NEW]:
                self.leave(number)


@torch.inference_mode()
def test_rows_that_join_and_leave_do_not_change_each_other(
    loaded: LoadedModel, plain_model: LoadedModel
) -> None:
    batch = GreedyBatch(loaded.forward)
    batch.join(0, 1)
    batch.steps(3)
    batch.join(2)
    batch.steps(5)
    batch.leave(0)
    batch.join(3, 4, 5)
    while batch.rows:
        batch.steps(1)
    expected = {number: alone(plain_model, prompt) for number, prompt in enumerate(PROMPTS)}
    expected[0] = expected[0][:9]  # left early
    assert batch.tokens == expected


@torch.inference_mode()
def test_scores_are_the_log_probabilities_of_one_plain_pass(
    loaded: LoadedModel, plain_model: LoadedModel
) -> None:
    prompt = PROMPTS[1]
    scored = finished(loaded.forward.score(ScoringTask(prompt, CONTINUATIONS)))
    sums = [text.logprob for text in scored.continuations]
    assert sums == pytest.approx([plain(plain_model, prompt, c) for c in CONTINUATIONS], abs=1e-3)


def plain(loaded: LoadedModel, prompt: list[int], continuation: list[int]) -> float:
    module = loaded.forward.model  # type: ignore[attr-defined]
    if loaded.reader.encoder_decoder:
        shown = torch.tensor([[0, *continuation[:-1]]])
        logits = module(input_ids=torch.tensor([prompt]), decoder_input_ids=shown).logits[0]
    else:
        logits = module(torch.tensor([prompt + continuation])).logits[0, len(prompt) - 1 :]
    logprobs = logits.log_softmax(-1)
    return sum(float(logprobs[place, token]) for place, token in enumerate(continuation))
