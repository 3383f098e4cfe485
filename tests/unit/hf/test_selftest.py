"""What loads works: alone and together, a model computes what transformers' `generate` computes."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from arena_llm.types import Choices, Continuation, RawPrompt, ReturnOptions, ScoringRequest
from services.common.errors import ContextTooLong, ModelMisconfigured
from services.hf.forward import ScoringTask
from services.hf.forward_causal import CausalForward
from services.hf.forward_seq2seq import Seq2SeqForward
from services.hf.forward_single import SingleForward
from services.hf.loading import LoadedModel
from services.hf.request import prepare_generation, prepare_scoring
from tests.support.tiny_models import ARCHITECTURES
from tests.support.tokenizers import make_tokenizer
from tests.unit.hf.engine_driver import NAME, DrivenRequest, engine, finished, load_tiny, request

_SMALL: dict[str, Any] = {
    "vocab_size": 400,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "initializer_range": 0.3,
}
_ATTENTION: dict[str, Any] = {
    **_SMALL,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_STATE = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8}
_ENCODER_DECODER: dict[str, Any] = {
    **{name: _SMALL[name] for name in ("vocab_size", "bos_token_id", "eos_token_id")},
    "pad_token_id": 2,
    "d_model": 64,
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 128 for side in ("encoder", "decoder")},
    "max_position_embeddings": 512,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
    "init_std": 0.3,
}
_ROPE = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}

#: Architecture -> settings of a small model whose rows cannot share a pass.
SINGLE: dict[str, dict[str, Any]] = {
    "lfm2": {**_ATTENTION, "layer_types": ["conv", "full_attention"], "conv_L_cache": 3},
    "mamba": {**_SMALL, "state_size": 8},
    "mamba2": {**_SMALL, "state_size": 8, "num_heads": 8, "head_dim": 16, "n_groups": 1},
    "jamba": {
        **_ATTENTION,
        "mamba_d_state": 8,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "use_mamba_kernels": False,
    },
    "bamba": {**_ATTENTION, **_STATE, "attn_layer_indices": [1]},
    "bart": _ENCODER_DECODER,
    "mbart": _ENCODER_DECODER,
    "pegasus": _ENCODER_DECODER,
    "marian": _ENCODER_DECODER,
}
#: Those whose rows share their passes.
BATCHED: dict[str, dict[str, Any]] = {
    "phi3": {
        **_ATTENTION,
        "original_max_position_embeddings": 96,
        "max_position_embeddings": 512,
        "rope_scaling": _ROPE,
    },
    "qwen3": {**_ATTENTION, "head_dim": 16},
}
#: Those that cannot serve several requests correctly: a state inside the model, and keys that
#: depend on later tokens.
REFUSED: dict[str, dict[str, Any]] = {
    "recurrent_gemma": {**_ATTENTION, "lru_width": 64, "num_hidden_layers": 3},
    "bert": {**_ATTENTION, "is_decoder": False},
}
EVERY = {**SINGLE, **BATCHED}
#: Encoder-decoder models whose rows share their passes.
RELATIVE: dict[str, dict[str, Any]] = {"t5": {**ARCHITECTURES["t5"], "vocab_size": 400}}

PROMPTS = ["0", "Choose a move: 0 1 2 3 4 5 6 7 8.", "Yes or no?", "The board is empty. It's"]
NEW = 12


def make(folder: Path, architecture: str) -> Path:
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **{**EVERY, **REFUSED, **RELATIVE}[architecture])
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    auto.from_config(config).eval().save_pretrained(folder)
    make_tokenizer("byte level").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedModel]:
    def load(architecture: str) -> LoadedModel:
        folder = make(tmp_path_factory.mktemp(architecture), architecture)
        return load_tiny(folder, context_length=400)

    return cache(load)


def alone(loaded: LoadedModel, prompt: list[int]) -> list[int]:
    """The tokens that transformers' own `generate` returns."""
    module: Any = loaded.forward.model  # type: ignore[attr-defined]
    with torch.inference_mode():
        output = module.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=2,
        )
    return list(output[0, -NEW:].tolist())


@pytest.mark.parametrize("architecture", EVERY)
def test_requests_together_are_those_of_generate(
    model: Callable[[str], LoadedModel], architecture: str
) -> None:
    loaded = model(architecture)
    kind = SingleForward if architecture in SINGLE else CausalForward
    assert isinstance(loaded.forward, kind)
    options: dict[str, Any] = {"max_tokens": NEW, "temperature": 0.0, "ignore_eos": True}
    with engine(loaded.forward) as running:
        driven = []
        for prompt in [*PROMPTS, *PROMPTS]:
            returns = ReturnOptions(token_ids=True)
            driven.append(
                DrivenRequest(loaded, running, request(prompt, returns=returns, **options))
            )
            if len(driven) == 3:
                driven[0].next()  # the others join later
        replies = [one.completion_tail() for one in driven]
    for prompt, reply in zip([*PROMPTS, *PROMPTS], replies, strict=True):
        ids = loaded.reader.read(prompt)
        assert reply.completion_tokens is not None
        assert [*reply.completion_tokens.ids] == alone(loaded, ids), prompt


@pytest.mark.parametrize("architecture", ["marian", "t5", "qwen3"])
def test_tokens_that_a_generation_config_forces_or_forbids(
    tmp_path: Path, architecture: str
) -> None:
    """The first token, such as a translation's language, is no part of the completion."""
    folder = make(tmp_path, architecture)
    usual = load_tiny(folder, context_length=400)
    ids = usual.reader.read(PROMPTS[1])
    never = [*dict.fromkeys(alone(usual, ids))][:2]
    file = folder / "generation_config.json"
    rules: dict[str, Any] = {
        "suppress_tokens": never[:1],
        "bad_words_ids": [[token] for token in never],
    }
    forced = [7] if usual.reader.encoder_decoder else []
    if forced:
        rules["forced_bos_token_id"] = 7
    file.write_text(json.dumps({**json.loads(file.read_text()), **rules}))
    loaded = load_tiny(folder, context_length=400)
    expected = alone(loaded, ids)
    assert expected[: len(forced)] == forced
    assert not set(never) & set(expected)
    count = NEW - len(forced)
    generation = request(PROMPTS[1], max_tokens=count, temperature=0.0, ignore_eos=True)
    with engine(loaded.forward) as running:
        asked = replace(generation, returns=ReturnOptions(token_ids=True))
        reply = DrivenRequest(loaded, running, asked).completion()
    assert reply.completion_tokens is not None
    assert [*reply.completion_tokens.ids] == expected[len(forced) :]
    tokens = expected[len(forced) :][:3]
    with torch.inference_mode():
        scored = finished(loaded.forward.score(ScoringTask(ids, [tokens])))
        logprob = plain(loaded, ids, tokens, forced)
    assert scored.continuations[0].logprob == pytest.approx(logprob, abs=1e-3)


@pytest.mark.parametrize("architecture", SINGLE)
def test_scores_and_choices(model: Callable[[str], LoadedModel], architecture: str) -> None:
    loaded = model(architecture)
    texts = ("0", "left corner", "Yes")
    scoring = ScoringRequest(NAME, PROMPTS[1], tuple(map(Continuation, texts)))
    job = prepare_scoring(loaded, scoring, lambda result: None)
    with torch.inference_mode():
        scored = finished(loaded.forward.score(ScoringTask(job.prompt, job.continuations, 2)))
        expected = [plain(loaded, job.prompt, tokens) for tokens in job.continuations]
    assert [text.logprob for text in scored.continuations] == pytest.approx(expected, abs=1e-3)
    with engine(loaded.forward) as running:
        generation = request(PROMPTS[1], Choices(texts), temperature=0.0)
        assert DrivenRequest(loaded, running, generation).completion().text in texts


def plain(
    loaded: LoadedModel, prompt: list[int], tokens: list[int], forced: Sequence[int] = ()
) -> float:
    module: Any = loaded.forward.model  # type: ignore[attr-defined]
    if loaded.reader.encoder_decoder:
        start = module.config.decoder_start_token_id
        shown = torch.tensor([[start, *forced, *tokens[:-1]]])
        output = module(input_ids=torch.tensor([prompt]), decoder_input_ids=shown)
        logits = output.logits[0, len(forced) :]
    else:
        logits = module(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 :]
    logprobs = logits.log_softmax(-1)
    return sum(float(logprobs[place, token]) for place, token in enumerate(tokens))


def test_the_tokens_of_a_prompt_are_scored_one_row_at_a_time(
    model: Callable[[str], LoadedModel],
) -> None:
    loaded = model("mamba")
    ids = tuple(range(20, 60))
    scoring = ScoringRequest(NAME, RawPrompt(token_ids=ids), (), prompt_logprobs=True)
    job = prepare_scoring(loaded, scoring, lambda result: None)
    with torch.inference_mode():
        scored = finished(loaded.forward.score(ScoringTask(job.prompt, [], with_prompt=True)))
        expected = plain(loaded, [20], [*ids[1:]])
    assert len(scored.prompt) == 39
    assert sum(token.logprob for token in scored.prompt) == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("architecture", REFUSED)
def test_a_model_that_cannot_be_right_is_refused(tmp_path: Path, architecture: str) -> None:
    with pytest.raises(ModelMisconfigured, match="something else here than in") as caught:
        load_tiny(make(tmp_path, architecture))
    assert architecture in caught.value.message


def test_a_text_that_would_change_the_keys_before_it_is_refused(
    model: Callable[[str], LoadedModel],
) -> None:
    loaded = model("phi3")
    prompt = RawPrompt(token_ids=tuple(range(5, 95)))
    prepare_generation(loaded, request(prompt, max_tokens=6), 16, lambda event: None)
    with pytest.raises(ContextTooLong, match="96 of hf_tiny"):
        prepare_generation(loaded, request(prompt, max_tokens=7), 16, lambda event: None)


def test_a_batch_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the test, this model would answer wrongly as soon as two requests meet."""
    monkeypatch.setattr(CausalForward, "positions", lambda self, positions: {})
    loaded = load_tiny(make(tmp_path, "qwen3"))
    assert isinstance(loaded.forward, SingleForward)


def test_a_generation_config_with_other_defaults(tmp_path: Path) -> None:
    folder = make(tmp_path, "qwen3")
    settings = {
        "num_beams": 4,
        "num_return_sequences": 3,
        "do_sample": True,
        "temperature": 0.5,
        "use_cache": False,
        "repetition_penalty": 1.5,
        "forced_bos_token_id": 7,
        "max_length": 3,
        "eos_token_id": 1,
    }
    (folder / "generation_config.json").write_text(json.dumps(settings))
    assert isinstance(load_tiny(folder).forward, CausalForward)


def test_the_kinds_of_forward_passes(model: Callable[[str], LoadedModel]) -> None:
    assert not isinstance(model("bart").forward, Seq2SeqForward)
    assert model("bart").forward.prefixes is None
    assert "runs one row at a time" in model("bart").note
    assert "one row" not in model("qwen3").note


@pytest.mark.parametrize("architecture", ["mamba", "jamba", "bart"])
def test_the_size_of_a_state_is_learned(
    model: Callable[[str], LoadedModel], architecture: str
) -> None:
    """The bound of a row's memory is what its state really takes, here counted by pickling it."""
    forward = model(architecture).forward
    assert isinstance(forward, SingleForward)
    fresh = SingleForward(forward.model)
    assert fresh.cache_bytes([40]) == 0, "nothing is known before a prompt was read"
    with torch.inference_mode():
        rows = [finished(fresh.prefill([[7] * length]))[0] for length in (10, 60)]
    sizes = [_tensor_bytes(row.state) for row in rows]
    assert sizes[0] > 0
    assert fresh.cache_bytes([10, 60]) == pytest.approx(sum(sizes), rel=0.02)


def _tensor_bytes(state: dict[str, Any]) -> int:
    buffer = io.BytesIO()
    tensors: dict[int, torch.Tensor] = {}

    class Collect(pickle.Pickler):
        def persistent_id(self, item: Any) -> int | None:
            if isinstance(item, torch.Tensor):
                tensors[id(item)] = item
                return id(item)
            return None

    Collect(buffer).dump(state)
    return sum(tensor.nbytes for tensor in tensors.values())
