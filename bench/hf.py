"""The speed of the hf service: `python -m bench.hf`.

The embedded model answers through client, router and service. Before that, bare transformers
does the same work in its own process: `python -m bench.hf bare FOLDER`.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from arena_llm import AsyncClient, Client
from bench import harness
from services.common.local.checks import embedded_folder
from services.hf.embedded import prepare

MODEL = "hf_bench"
TOKENS = 48
CALLERS = (1, 8, 32)

_THINGS = ("river", "clock", "garden", "bridge", "lamp", "forest", "train", "island")
_PEOPLE = ("a baker", "a sailor", "a teacher", "a painter")


def story_prompts(count: int) -> list[str]:
    """Prompts of about 60 tokens, whose answers are longer than any limit used here."""
    rules = "Write in plain words, in the past tense, and describe every scene with care. "
    return [
        f"{rules * 2}Tell a very long story about {_PEOPLE[i % len(_PEOPLE)]} and the "
        f"{_THINGS[i % len(_THINGS)]} number {i}."
        for i in range(count)
    ]


def long_prompt() -> str:
    """A game prompt of about 250 tokens with the chat template."""
    board = "Row one: empty, X, O. Row two: X, O, empty. Row three: empty, empty, X. "
    return (
        "You play tic-tac-toe as O. The cells are numbered 0 to 8, row by row. "
        + board * 7
        + "Answer with the number of the cell you choose."
    )


# Bare transformers


def bare(folder: str) -> dict[str, float]:
    """Measure transformers by itself: tokens/s, and seconds of a forward pass.

    The batch runs twice: with the defaults of transformers, and with the memory settings of
    the service.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from services.hf.backend import tune_cpu

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with torch.inference_mode():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        prompts = story_prompts(CALLERS[-1])
        _generate(model, tokenizer, prompts[:1], 8)
        singles = [_generate(model, tokenizer, [prompt], TOKENS) for prompt in prompts[:4]]
        rates = {
            "one_by_one": statistics.median(singles),
            "batch": _generate(model, tokenizer, prompts, TOKENS),
            "forward_seconds": _forward_seconds(model, tokenizer),
        }
        tune_cpu(None)
        rates["batch_tuned"] = _generate(model, tokenizer, prompts, TOKENS)
    return rates


def _tokenize(tokenizer: Any, prompts: list[str]) -> Any:
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
    )


def _generate(model: Any, tokenizer: Any, prompts: list[str], tokens: int) -> float:
    """Tokens per second of one `generate` over all prompts, end tokens included."""
    inputs = _tokenize(tokenizer, prompts)
    begun = time.perf_counter()
    output = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    elapsed = time.perf_counter() - begun
    new = output[:, inputs["input_ids"].shape[1] :]
    ends = (new == tokenizer.eos_token_id).int()
    # A row's tokens end with its first end token; the rest is padding.
    made = int(((ends.cumsum(dim=1) - ends) == 0).sum())
    return made / elapsed


def _forward_seconds(model: Any, tokenizer: Any) -> float:
    """Median time of one forward pass over the long prompt."""
    inputs = _tokenize(tokenizer, [long_prompt()])
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        model(**inputs)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


# The service


@contextmanager
def embedded_system() -> Iterator[harness.System]:
    """Router and hf service with the embedded model."""
    folder = embedded_folder()
    prepare(folder)
    entry = {"name": MODEL, "model_path": str(folder.resolve()), "preload": True}
    with ExitStack() as stack:
        yield harness.System(stack, "hf", {"models": [entry]})


async def _tokens_per_second(target: str, callers: int) -> float:
    async with AsyncClient(target) as llm:
        begun = time.perf_counter()
        replies = await asyncio.gather(
            *(
                llm.generate(MODEL, prompt, max_tokens=TOKENS, temperature=0)
                for prompt in story_prompts(callers)
            )
        )
        elapsed = time.perf_counter() - begun
    return sum(reply.usage.completion_tokens for reply in replies) / elapsed


def _constrained_seconds(target: str) -> tuple[float, int]:
    """Median time of a move among nine digits, and the tokens of its prompt."""
    with Client(target) as llm:
        times = []
        for _ in range(7):
            begun = time.perf_counter()
            reply = llm.generate(MODEL, long_prompt(), choices=[str(n) for n in range(9)])
            times.append(time.perf_counter() - begun)
    return statistics.median(times), reply.usage.prompt_tokens


def _cancel_seconds(target: str) -> tuple[float, float]:
    """Median time from a stream's cancel until the engine has no row, and of one step."""
    waits, steps = [], []
    with Client(target) as llm:
        for _ in range(5):
            with llm.stream(MODEL, story_prompts(1)[0], max_tokens=400, temperature=0) as stream:
                arrivals = [time.perf_counter() for _, _ in zip(range(8), stream, strict=False)]
            cancelled = time.perf_counter()
            while (load := llm.is_available(MODEL).load) is not None and load.running:
                time.sleep(0.002)
            waits.append(time.perf_counter() - cancelled)
            steps.append((arrivals[-1] - arrivals[0]) / (len(arrivals) - 1))
    return statistics.median(waits), statistics.median(steps)


def run() -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    prepare(embedded_folder())
    command = [sys.executable, "-m", "bench.hf", "bare", str(embedded_folder())]
    alone = json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL))
    with embedded_system() as system:
        asyncio.run(_tokens_per_second(system.target, 1))
        rates = {
            callers: asyncio.run(_tokens_per_second(system.target, callers)) for callers in CALLERS
        }
        move, prompt_tokens = _constrained_seconds(system.target)
        cancel, step = _cancel_seconds(system.target)
        memory = harness.rss_mb(system.pids["service"])
    most = rates[CALLERS[-1]]
    return {
        "tokens_per_second": {str(callers): rate for callers, rate in rates.items()},
        "bare": alone,
        "service_over_one_by_one": most / alone["one_by_one"],
        "service_over_batch": most / alone["batch"],
        "service_over_batch_tuned": most / alone["batch_tuned"],
        "move_seconds": move,
        "move_prompt_tokens": prompt_tokens,
        "move_over_forward": move / alone["forward_seconds"],
        "cancel_seconds": cancel,
        "step_seconds": step,
        "memory_mb": memory,
    }


#: The aims of these figures.
_AIMS = {
    "service_over_one_by_one": ">= 5",
    "service_over_batch": ">= 0.9",
    "move_over_forward": "<= 1.5",
    "cancel_seconds": "<= 0.1, or a step",
}


def main() -> None:
    """Print the tables and write the JSON."""
    results = run()
    rows = [[f"service, {n} callers", rate] for n, rate in results["tokens_per_second"].items()]
    rows += [[f"bare, {name}", rate] for name, rate in results["bare"].items()]
    harness.print_table(f"hf: tokens/s, {TOKENS} tokens a reply", ["way", "tokens/s"], rows)
    rows = [
        [name, value, _AIMS.get(name, "")]
        for name, value in results.items()
        if not isinstance(value, dict)
    ]
    harness.print_table("hf: figures", ["figure", "value", "aim"], rows)
    harness.write_results("hf", results)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", folder]:
            print(json.dumps(bare(str(Path(folder)))))
        case _:
            main()
