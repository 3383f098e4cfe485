"""The prefix cache: a common prefix is read once, and results do not change."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from services.hf.forward import ScoringTask
from services.hf.forward_causal import CausalForward
from services.hf.loading import LoadedModel
from services.hf.prefix import PrefixCache
from tests.support.tiny_models import ARCHITECTURES
from tests.unit.hf.conftest import Models
from tests.unit.hf.engine_driver import finished
from tests.unit.hf.test_forward import CONTINUATIONS, GreedyBatch, alone, plain

_random = torch.Generator().manual_seed(2)
#: Bytes of one token's keys and values in the tiny llama: layers * 2 * heads * size * 4.
TOKEN = 2 * 2 * 2 * 16 * 4


def some(count: int) -> list[int]:
    return torch.randint(5, 80, (count,), generator=_random).tolist()


LONG = some(70)
OTHER = LONG[:40] + some(20)
#: Prompts that differ from the first after 40 tokens, not at all, after its end, inside it and
#: from the start; the last one continues the second, which was read beside a longer prompt.
PROMPTS = [LONG, OTHER, LONG, LONG + some(9), LONG[:33], some(12), OTHER + some(3)]


@pytest.fixture(params=[name for name in ARCHITECTURES if name != "t5"])
def loaded(request: pytest.FixtureRequest, model: Models) -> LoadedModel:
    return model(request.param)


def cached_forward(loaded: LoadedModel, tokens: int) -> tuple[CausalForward, PrefixCache]:
    """A new forward for a model, whose prefix cache holds `tokens` tokens."""
    module: Any = loaded.forward.model  # type: ignore[attr-defined]
    layers, size = module.config.num_hidden_layers, module.config.hidden_size
    heads = getattr(module.config, "num_key_value_heads", module.config.num_attention_heads)
    token = layers * 2 * heads * (size // module.config.num_attention_heads) * 4
    forward = CausalForward(module, 32, token * (tokens + 1))
    assert forward.prefixes is not None
    return forward, forward.prefixes


@torch.inference_mode()
def test_a_cached_prefix_does_not_change_the_completion(loaded: LoadedModel) -> None:
    forward, _ = cached_forward(loaded, 1000)
    batch = GreedyBatch(forward, PROMPTS)
    batch.join(0)
    batch.steps(2)
    batch.join(1, 2, 4)
    batch.steps(3)
    batch.join(3, 5, 6)
    while batch.rows:
        batch.steps(1)
    assert batch.tokens == {n: alone(loaded, prompt) for n, prompt in enumerate(PROMPTS)}
    # Prompts of one pass read as many tokens as the one with the most unread, here 20 and 12.
    assert batch.cached == {0: 0, 1: 40, 2: 50, 4: 13, 3: 67, 5: 0, 6: 51}


@torch.inference_mode()
def test_a_cached_prefix_does_not_change_scores(loaded: LoadedModel) -> None:
    forward, _ = cached_forward(loaded, 1000)
    finished(forward.prefill([LONG[:50]]))
    scored = finished(forward.score(ScoringTask(LONG, CONTINUATIONS)))
    assert scored.cached == 50
    sums = [text.logprob for text in scored.continuations]
    assert sums == pytest.approx([plain(loaded, LONG, c) for c in CONTINUATIONS], abs=1e-3)


@torch.inference_mode()
def test_it_stays_within_its_memory_and_drops_the_least_recently_used(model: Models) -> None:
    loaded = model("llama")
    forward, prefixes = cached_forward(loaded, 100)
    prompts = [some(30) for _ in range(8)]
    for prompt in prompts:
        finished(forward.prefill([prompt]))
        finished(forward.prefill([prompts[0]]))  # so that it is the most recently used
        assert prefixes.allocated_bytes <= 101 * TOKEN
        assert len(prefixes) <= 100
    matched = [len(prefixes.match(prompt)) for prompt in prompts]
    # The first, two complete ones, and the beginning of a third.
    assert matched == [30, 0, 0, 0, 0, 10, 30, 30]
    batch = GreedyBatch(forward, prompts)
    batch.join(*range(8))
    while batch.rows:
        batch.steps(1)
    assert batch.tokens == {n: alone(loaded, prompt) for n, prompt in enumerate(prompts)}


@pytest.mark.parametrize(("room", "kept"), [(50, 50), (1, 1), (0, 0)])
@torch.inference_mode()
def test_it_keeps_the_beginning_of_a_prompt_that_does_not_fit(
    model: Models, room: int, kept: int
) -> None:
    loaded = model("llama")
    forward, prefixes = cached_forward(loaded, room)
    for _ in range(2):
        finished(forward.prefill([LONG]))
    assert len(prefixes.match(LONG)) == kept
    assert prefixes.allocated_bytes <= (room + 1) * TOKEN


@pytest.mark.parametrize("layer", [1, 2])
@torch.inference_mode()
def test_the_cache_stays_usable_if_memory_runs_out(
    model: Models, layer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, prefixes = cached_forward(model("llama"), 1000)
    new_empty, made = torch.Tensor.new_empty, list[torch.Size]()

    def scarce(tensor: torch.Tensor, size: Any) -> torch.Tensor:
        if size[1] > 1000:  # a layer of the prefix cache, not of a prompt
            made.append(tensor.shape)
            if len(made) == 2 * layer:
                raise MemoryError
        return new_empty(tensor, size)

    monkeypatch.setattr(torch.Tensor, "new_empty", scarce)
    with pytest.raises(MemoryError):
        finished(forward.prefill([LONG]))
    for _ in range(2):
        finished(forward.prefill([LONG]))
    assert prefixes.match(LONG)


def test_an_encoder_decoder_model_has_no_prefix_cache(model: Models) -> None:
    assert model("t5").forward.prefixes is None
