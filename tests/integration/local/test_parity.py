"""One model, three ways in float32: the vllm service, the hf service, bare transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import takewhile
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
#: Logits closer than this may change places: float32 sums depend on the order.
CLOSE = 1e-3


@pytest.fixture
def llm(system: System) -> Iterator[Client]:
    with Client(system.target) as client:
        yield client


class BareModel:
    """The model in bare transformers."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        texts = self._tokenizer.batch_decode([[id] for id in range(len(self._tokenizer))])
        self._ids = {text: id for id, text in enumerate(texts)}

    @torch.inference_mode()
    def gaps(self, prompt: str, tokens: list[str]) -> list[float]:
        """How far each token's logit is below the maximum, after the tokens before it.

        All zero: greedy decoding gives these tokens.
        """
        ids = [self._ids[token] for token in tokens]
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
def bare(tiny: Path) -> Iterator[BareModel]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads would wait for each other beside busy engines
    yield BareModel(tiny)
    torch.set_num_threads(threads)


def test_greedy_tokens_are_those_of_bare_transformers(llm: Client, bare: BareModel) -> None:
    """Unless two logits are so close that float32 decides."""
    for model in MODELS:
        replies = llm.generate_many(model, PROMPTS, max_tokens=16, temperature=0, logprobs=0)
        for prompt, reply in zip(PROMPTS, replies, strict=True):
            assert isinstance(reply, Completion), reply
            # Up to the first special token or part of a character, which has no text of its own.
            texts = (token.token for token in reply.logprobs)
            tokens = [*takewhile(lambda text: text and text.isascii(), texts)]
            if tokens:
                assert max(bare.gaps(prompt, tokens)) < CLOSE, (model, prompt, tokens)


def test_greedy_constrained_texts_agree(llm: Client) -> None:
    texts = [
        [
            reply.text if isinstance(reply, Completion) else reply
            for reply in llm.generate_many(
                model, PROMPTS, regex="[a-z ]{16}", max_tokens=32, temperature=0
            )
        ]
        for model in MODELS
    ]
    assert texts[0] == texts[1]


def test_an_end_token_has_no_log_probability(llm: Client) -> None:
    """It is not part of the text."""
    for model in MODELS:
        replies = llm.generate_many(
            model,
            [f"{n}: your move?" for n in range(32)],
            max_tokens=400,
            temperature=2.0,
            logprobs=0,
        )
        stopped = [
            reply
            for reply in replies
            if isinstance(reply, Completion) and reply.finish_reason == FinishReason.STOP
        ]
        assert stopped
        for reply in stopped:
            assert len(reply.logprobs) == reply.usage.completion_tokens - 1


def test_scores_agree(llm: Client) -> None:
    actions = ["0", "4", "e2e4", "Paris", "I take the cell in the middle", "日本"]
    for prompt in PROMPTS[::3]:
        hf, vllm = (llm.score(model, prompt, actions) for model in MODELS)
        for a, b in zip(hf, vllm, strict=True):
            assert (a.text, a.tokens) == (b.text, b.tokens)
            assert a.logprob == pytest.approx(b.logprob, abs=1e-3 * a.tokens), prompt


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
