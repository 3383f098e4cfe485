"""One model, three ways in float32: the vllm service, the hf service, bare transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonschema import validate
from transformers import AutoModelForCausalLM, AutoTokenizer

from arena_llm import Client
from arena_llm.errors import ArenaError
from arena_llm.types import Completion, FinishReason
from deploy.services import ROOT
from services.hf.embedded import default_folder
from tests.support.processes import ServiceProcess
from tests.support.system import free_ports
from tests.support.vllm import EMBEDDED, VllmProcess

MODEL = ROOT / default_folder()
HF = EMBEDDED.replace("vllm_", "hf_")

TOKENS = 16
PROMPTS = [
    f"{task} {subject}."
    for task in (
        "Write a story about",
        "Explain in plain words the game of",
        "List what one needs for",
        "Name five facts about",
        "Tic-tac-toe, you are X and the board is empty. Say where to play and talk about",
    )
    for subject in ("chess", "a river in winter", "bread", "the number 7")
]
#: Logits that are as close as this may change places: sums in float32 in another order.
CLOSE = 1e-3


@pytest.fixture(scope="module")
def clients(
    vllm: VllmProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Client]]:
    """A client of each service, by the name that it gives the model."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    entry = {"name": HF, "model_path": str(MODEL), "dtype": "float32", "preload": True}
    config = tmp_path_factory.mktemp("hf") / "hf_models.yaml"
    config.write_text(yaml.safe_dump({"listen": address, "device": "cpu", "models": [entry]}))
    with (
        ServiceProcess(address, "-m", "services.hf", "--config", str(config)) as hf,
        Client(vllm.address) as ours,
        Client(hf.address) as its,
    ):
        yield {EMBEDDED: ours, HF: its}


class Bare:
    """The model in bare transformers."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        texts = self._tokenizer.batch_decode([[id] for id in range(len(self._tokenizer))])
        self._ids = {text: id for id, text in enumerate(texts)}
        self.end: str = self._tokenizer.eos_token

    @torch.inference_mode()
    def gaps(self, prompt: str, tokens: list[str]) -> list[float]:
        """How far each token's logit is under the likeliest one's, after those before it.

        All zero: these are the tokens that greedy decoding gives.
        """
        chat = [{"role": "user", "content": prompt}]
        given = self._tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_dict=False
        )
        ids = [self._ids[token] for token in tokens]
        logits = self._model(torch.tensor([[*given, *ids]])).logits[0, len(given) - 1 : -1]
        own = logits.gather(1, torch.tensor(ids)[:, None])[:, 0]
        return list((logits.max(dim=1).values - own).tolist())


@pytest.fixture
def bare() -> Iterator[Bare]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # beside busy engines, two threads wait for each other
    yield Bare(MODEL)
    torch.set_num_threads(threads)


def test_greedy_tokens_are_those_of_bare_transformers(
    clients: dict[str, Client], bare: Bare
) -> None:
    """Or the logits at the first difference are so close that float32 decides."""
    made: list[list[list[str]]] = []
    for model, client in clients.items():
        replies = client.generate_many(model, PROMPTS, max_tokens=TOKENS, temperature=0, logprobs=0)
        made.append([_tokens(reply, bare.end) for reply in replies])
    for prompt, ours, its in zip(PROMPTS, *made, strict=True):
        assert max(bare.gaps(prompt, ours)) < CLOSE, (prompt, ours)
        assert ours == its or max(bare.gaps(prompt, its)) < CLOSE, (prompt, its)


def _tokens(reply: Completion | ArenaError, end: str) -> list[str]:
    """All that the model made. An end token has no log-probability, as it is no text."""
    assert isinstance(reply, Completion), reply
    tokens = [told.token for told in reply.logprobs]
    if reply.finish_reason == FinishReason.STOP:
        tokens.append(end)
    assert len(tokens) == reply.usage.completion_tokens > 1
    return tokens


def test_an_end_token_has_no_log_probability(clients: dict[str, Client]) -> None:
    prompt = "Answer with one word: yes."
    for model, client in clients.items():
        reply = client.generate(model, prompt, max_tokens=64, temperature=0, logprobs=2)
        assert reply.finish_reason == FinishReason.STOP
        assert "".join(told.token for told in reply.logprobs) == reply.text
        assert len(reply.logprobs) == reply.usage.completion_tokens - 1


def test_scores_agree(clients: dict[str, Client]) -> None:
    actions = ["0", "4", "e2e4", "Paris", "I take the cell in the middle", "日本"]
    for prompt in PROMPTS[::5]:
        ours, its = (client.score(model, prompt, actions) for model, client in clients.items())
        for a, b in zip(ours, its, strict=True):
            assert (a.text, a.tokens) == (b.text, b.tokens)
            assert a.logprob == pytest.approx(b.logprob, abs=1e-3 * a.tokens), prompt


CELLS = [str(cell) for cell in range(9)]
SCHEMA = {
    "type": "object",
    "properties": {"cell": {"type": "integer"}, "why": {"enum": ["win", "block", "other"]}},
    "required": ["cell", "why"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("choices", [CELLS, ["left", "left corner", "right"]], ids=str)
def test_the_same_choice_is_taken(clients: dict[str, Client], choices: list[str]) -> None:
    for prompt in PROMPTS[-4:]:
        ours, its = (
            client.generate(model, prompt, temperature=0, choices=choices).text
            for model, client in clients.items()
        )
        assert ours == its
        assert ours in choices


def test_a_schema_is_obeyed(clients: dict[str, Client]) -> None:
    """By both; the vllm service writes it on one line, the hf service as the model likes."""
    for prompt in PROMPTS[-4:]:
        for model, client in clients.items():
            text = client.generate(model, prompt, temperature=0, json_schema=SCHEMA).text
            validate(json.loads(text), SCHEMA)
