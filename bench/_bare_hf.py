"""What the hf service is measured against: transformers by itself, in its own process.

`python -m bench._bare_hf FOLDER TOKENS CALLERS...` prints one JSON document. The batch
runs twice: as transformers comes, and with the memory settings of services.hf.tuning,
under which transformers' continuous batching runs as well.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    ContinuousBatchingConfig,
    GenerationConfig,
)

from bench._hf_load import long_prompt, story_prompts
from services.hf.tuning import tune_cpu

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def _generate(model: Any, tokenizer: Any, prompts: list[str], tokens: int) -> float:
    """Tokens per second of one `generate` over all prompts, end tokens included."""
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    inputs = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
    )
    begun = time.perf_counter()
    output = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    elapsed = time.perf_counter() - begun
    new = output[:, inputs["input_ids"].shape[1] :]
    ends = (new == tokenizer.eos_token_id).int()
    # A row's tokens end with its first end token; the rest is padding.
    made = int(((ends.cumsum(dim=1) - ends) == 0).sum())
    return made / elapsed


def _continuous(model: Any, tokenizer: Any, prompts: list[str], tokens: int) -> float:
    """Tokens per second of transformers' own continuous batching.

    Its defaults plan for all memory and are unusable on a CPU; these sizes are the
    fastest found there.
    """
    inputs = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
        )
        for prompt in prompts
    ]
    end = tokenizer.eos_token_id
    begun = time.perf_counter()
    done = model.generate_batch(
        inputs,
        generation_config=GenerationConfig(
            max_new_tokens=tokens, do_sample=False, eos_token_id=end, pad_token_id=end
        ),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=32, num_blocks=256, max_batch_tokens=512
        ),
        warmup=False,
    )
    elapsed = time.perf_counter() - begun
    return sum(len(output.generated_tokens) for output in done.values()) / elapsed


def _forward_seconds(model: Any, tokenizer: Any) -> float:
    """Median time of one forward pass over the long prompt."""
    chat = [{"role": "user", "content": long_prompt()}]
    inputs = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        model(**inputs)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


@torch.inference_mode()
def main(folder: str, tokens: int, rows: int) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    prompts = story_prompts(rows)
    _generate(model, tokenizer, prompts[:1], 8)
    singles = [_generate(model, tokenizer, [prompt], tokens) for prompt in prompts[:4]]
    figures: dict[str, Any] = {
        "one_by_one": statistics.median(singles),
        "batch": _generate(model, tokenizer, prompts, tokens),
        "forward_seconds": _forward_seconds(model, tokenizer),
    }
    tune_cpu(None)
    figures["batch_tuned"] = _generate(model, tokenizer, prompts, tokens)
    figures["continuous_tuned"] = _continuous(model, tokenizer, prompts, tokens)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
