"""One model, three ways in float32: the vllm service, the hf service, bare transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import validate
from transformers import AutoModelForCausalLM, AutoTokenizer

from arena_llm import Client
from arena_llm.types import Completion, FinishReason
from tests.support.local_models import TEMPLATE
from tests.support.system import System

MODELS = ("hf_tiny", "vllm_tiny")
PROMPTS = [
    f"{task} {subject}."
    for task in (
        "Write a story about",
        "Explain in plain words the game of",
        "Name five facts about",
        "Tic-tac-toe: the board is empty. Say where to play and",
    )
    for subject in ("chess", "a river in winter", "bread", "the number 7", "日本")
]
GREEDY: dict[str, Any] = {"max_tokens": 16, "temperature": 0, "token_ids": True}
#: Logits closer than this may change places: float32 sums depend on the order.
CLOSE = 1e-3


@pytest.fixture
def llm(system: System) -> Iterator[Client]:
    with Client(system.target) as client:
        yield client


def complete_all(llm: Client, model: str, prompts: list[str], **options: Any) -> list[Completion]:
    """The completions of the prompts, in their order."""
    outcomes = dict(llm.generate_many(model, prompts, **options))
    replies = [outcomes[number] for number in range(len(prompts))]
    assert all(isinstance(reply, Completion) for reply in replies), replies
    return replies  # type: ignore[return-value]


class BareModel:
    """The model in bare transformers."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def gaps(self, prompt: str, ids: Sequence[int]) -> list[float]:
        """How far each token's logit is below the maximum, after the tokens before it.

        All zero: greedy decoding gives these tokens.
        """
        prompt_ids = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            chat_template=TEMPLATE,
            add_generation_prompt=True,
            return_dict=False,
        )
        logits = self._model(torch.tensor([[*prompt_ids, *ids]])).logits[0]
        logits = logits[len(prompt_ids) - 1 : -1]
        chosen = logits.gather(1, torch.tensor(ids)[:, None])[:, 0]
        return (logits.max(dim=1).values - chosen).tolist()


@pytest.fixture
def bare(folder: Path) -> Iterator[BareModel]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads would wait for each other beside busy engines
    yield BareModel(folder / "tiny")
    torch.set_num_threads(threads)


def test_greedy_tokens_are_those_of_bare_transformers(llm: Client, bare: BareModel) -> None:
    """Unless two logits are so close that float32 decides."""
    for model in MODELS:
        for prompt, reply in zip(PROMPTS, complete_all(llm, model, PROMPTS, **GREEDY), strict=True):
            assert reply.completion_tokens is not None
            ids = reply.completion_tokens.ids
            assert max(bare.gaps(prompt, ids)) < CLOSE, (model, prompt, ids)


def test_greedy_constrained_texts_agree(llm: Client) -> None:
    options = {"regex": "[a-z ]{16}", "max_tokens": 32, "temperature": 0}
    texts = [
        [reply.text for reply in complete_all(llm, model, PROMPTS, **options)] for model in MODELS
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.5},
        {"presence_penalty": 1.0, "frequency_penalty": 0.5},
        {"logit_bias": {20: 3.0, 87: -100.0}, "repetition_penalty": 1.2},
        {"min_tokens": 8, "logit_bias": {1: 4.0}},
    ],
    ids=str,
)
def test_greedy_tokens_with_adjusted_logits_agree(llm: Client, options: dict[str, Any]) -> None:
    hf, vllm = (
        [
            reply.completion_tokens
            for reply in complete_all(llm, model, PROMPTS[:6], **GREEDY, **options)
        ]
        for model in MODELS
    )
    for a, b in zip(hf, vllm, strict=True):
        assert a is not None
        assert b is not None
        assert a.ids == b.ids


def test_an_end_token_has_a_log_probability(llm: Client) -> None:
    """It is not part of the text, but of the tokens."""
    prompts = [f"{n}: your move?" for n in range(32)]
    options = {"max_tokens": 400, "temperature": 2.0, "top_logprobs": 0}
    for model in MODELS:
        # Some of the random texts hold the letter after which the model computes NaN.
        stopped = [
            reply
            for _, reply in llm.generate_many(model, prompts, **options)  # type: ignore[arg-type]
            if isinstance(reply, Completion) and reply.finish_reason == FinishReason.STOP
        ]
        assert stopped
        for reply in stopped:
            trace = reply.completion_tokens
            assert trace is not None
            assert trace.bytes[-1] == b"<|im_end|>"
            assert len(trace.logprobs) == reply.usage.completion_tokens


def test_scores_agree(llm: Client) -> None:
    actions = ["0", "4", "e2e4", "Paris", "I take the cell in the middle", "日本"]
    for prompt in PROMPTS[::3]:
        hf, vllm = (llm.score(model, prompt, actions) for model in MODELS)
        for a, b in zip(hf, vllm, strict=True):
            assert (a.tokens.ids, a.tokens.bytes) == (b.tokens.ids, b.tokens.bytes)
            assert a.tokens.logprobs == pytest.approx(b.tokens.logprobs, abs=1e-3), prompt


@pytest.mark.parametrize(
    "choices", [[str(cell) for cell in range(9)], ["left", "left corner", "right"]], ids=str
)
def test_greedy_choices_agree(llm: Client, choices: list[str]) -> None:
    for prompt in PROMPTS[-4:]:
        hf, vllm = (
            llm.generate(model, prompt, temperature=0, choices=choices).text for model in MODELS
        )
        assert hf == vllm
        assert hf in choices


SCHEMA = {
    "type": "object",
    "properties": {"cell": {"type": "integer"}, "why": {"enum": ["win", "block", "other"]}},
    "required": ["cell", "why"],
    "additionalProperties": False,
}


def test_both_obey_a_schema(llm: Client) -> None:
    """vllm writes JSON on one line; hf may add white space."""
    for model in MODELS:
        reply = llm.generate(model, PROMPTS[0], json_schema=SCHEMA, max_tokens=400)
        if reply.finish_reason == FinishReason.STOP:
            validate(json.loads(reply.text), SCHEMA)
