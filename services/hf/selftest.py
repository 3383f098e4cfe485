"""Finds the forward pass with which a model computes what transformers' `generate` computes.

Architectures differ in what a key depends on, how positions are counted in a padded row, and what
they keep in place of keys. So no list of names decides, but a test of each model when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from services.common.errors import ModelMisconfigured
from services.common.log import log
from services.hf.config import HfModel
from services.hf.context import read_context_length
from services.hf.errors import is_out_of_memory
from services.hf.forward import (
    Floats,
    Forward,
    Prefilled,
    ScoringTask,
    Work,
    finite_rows,
    log_softmax,
)
from services.hf.forward_causal import CausalForward, to_numpy, usable_tokens
from services.hf.forward_seq2seq import Seq2SeqForward, find_beginning
from services.hf.forward_single import SingleForward

#: Lengths of the prompts: rows of one pass are padded, and the longest takes several passes.
_LENGTHS = (5, 23, 11)
#: Tokens of each completion.
_NEW = 4
#: Prompt tokens of one pass in the test, and the size of its prefix cache.
_STEP_TOKENS, _PREFIX_BYTES = 16, 1 << 28
#: How far logits may be from those of `generate`, as a share of their standard deviation. Sums in
#: another order differ by 0.00001 in float32; a wrong key or position by far more.
_EXACT, _ROUNDED = 1e-3, 0.2


class _DiffersError(Exception):
    """A forward pass does not compute what `generate` computes."""


@dataclass(frozen=True)
class _Reference:
    """A prompt, the greedy tokens after it, and the logits [tokens, vocabulary] at each."""

    prompt: list[int]
    tokens: list[int]
    logits: Floats


def make_forward(entry: HfModel, model: Any, step_tokens: int) -> Forward:
    """The fastest forward pass that is right for this model.

    step_tokens: prompt tokens of one pass. Raises ModelMisconfigured if there is none, and
    FloatingPointError if the model computes NaN.
    """
    batched: Forward
    tested: Forward
    if model.config.is_encoder_decoder:
        batched = tested = Seq2SeqForward(model)
    else:
        batched = CausalForward(model, step_tokens, int(entry.prefix_cache_gb * 1e9))
        tested = CausalForward(model, _STEP_TOKENS, _PREFIX_BYTES)
    references = _generate(entry, model)
    single = SingleForward(model)
    reasons: list[str] = []
    for forward, candidate in ((batched, tested), (single, single)):
        try:
            with torch.inference_mode():
                _check(candidate, references, _EXACT if model.dtype == torch.float32 else _ROUNDED)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reasons.append(" ".join(f"{type(error).__name__}: {error}".split())[:200])
            log.warning(
                "self-test", model=entry.name, forward=type(forward).__name__, why=reasons[-1]
            )
            continue
        return forward
    raise ModelMisconfigured(
        f"{entry.name}: its architecture, {model.config.model_type}, computes something else here "
        f"than in transformers' generate, in a batch ({reasons[0]}) and one row at a time "
        f"({reasons[1]}): use another model, or the vllm service"
    )


def _generate(entry: HfModel, model: Any) -> list[_Reference]:
    """What transformers' `generate` does after prompts of several lengths."""
    longest = (read_context_length(entry, model.config) or max(_LENGTHS) + _NEW) - _NEW
    return [_continue(model, prompt) for prompt in _make_prompts(model, max(1, longest))]


def _make_prompts(model: Any, longest: int) -> Iterator[list[int]]:
    config = model.config
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")}
    tokens = [token for token in range(min(usable_tokens(model), 4096)) if token not in special]
    for number, length in enumerate(_LENGTHS):
        places = range(number, number + min(length, longest))
        yield [tokens[(37 * place + 11) % len(tokens)] for place in places]


def _continue(model: Any, prompt: list[int]) -> _Reference:
    ids = torch.tensor([prompt], device=model.device)
    beginning: dict[str, Any] = {}
    if model.config.is_encoder_decoder:
        beginning["decoder_input_ids"] = ids.new_tensor([find_beginning(model)])
    with torch.inference_mode():
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            **beginning,
            max_new_tokens=_NEW,
            min_new_tokens=_NEW,
            # What its generation config may set differently.
            do_sample=False,
            num_beams=1,
            num_return_sequences=1,
            use_cache=True,
            disable_compile=True,
            eos_token_id=None,
            forced_bos_token_id=None,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_logits=True,
        )
    tokens = output.sequences[0, -_NEW:].tolist()
    logits = to_numpy(torch.stack(output.logits)[:, 0, : usable_tokens(model)])
    if not all(finite_rows(logits)):
        raise FloatingPointError("it computes NaN or infinity")
    return _Reference(prompt, tokens, logits)


def _check(forward: Forward, references: Sequence[_Reference], tolerance: float) -> None:
    """Raise _DiffersError, or what a pass raises, unless the logits are those of the references."""
    batch = forward.new_batch()
    rows: list[tuple[_Reference, int]] = []  # and how many of its tokens it has read
    try:
        # The others join a row that has begun. The last prompt is read a second time, from the
        # prefix cache.
        for joining in (references[:1], references[1:], references[-1:]):
            read: list[Prefilled] = _finish(forward.prefill([known.prompt for known in joining]))
            for known, prefilled in zip(joining, read, strict=True):
                _compare(prefilled.logits, known.logits[0], tolerance, "after a prompt")
            batch.join(read)
            rows += ((known, 0) for known in joining)
            if all(taken < _NEW - 1 for _, taken in rows):
                logits = batch.step([[known.tokens[taken]] for known, taken in rows])
                rows = [(known, taken + 1) for known, taken in rows]
                for row, (known, taken) in enumerate(rows):
                    _compare(logits[row], known.logits[taken], tolerance, "after a token")
    finally:
        batch.close()
    for known in references[1:]:
        scored = _finish(forward.score(ScoringTask(known.prompt, [known.tokens, known.tokens[:1]])))
        logprobs = log_softmax(known.logits)[np.arange(_NEW), known.tokens]
        spread = float(known.logits[np.isfinite(known.logits)].std())
        for text in scored.continuations:
            for token, expected in zip(text.tokens, logprobs, strict=False):
                if not abs(token.logprob - expected) <= tolerance * max(spread, 1e-3) * 4:
                    raise _DiffersError("log-probabilities of a continuation differ")


def _compare(logits: Floats, expected: Floats, tolerance: float, place: str) -> None:
    finite = np.isfinite(expected)
    if (np.isfinite(logits) != finite).any():
        raise _DiffersError(f"the logits {place} are not finite")
    difference = logits[finite] - expected[finite]
    error = float(np.sqrt(np.square(difference - difference.mean()).mean()))
    share = error / max(float(expected[finite].std()), 1e-6)
    if share > tolerance:
        raise _DiffersError(f"the logits {place} differ by {share:.2g} of their spread")


def _finish(work: Work) -> Any:
    """Run a generator of passes to its end. Returns its result."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value
