"""What the vllm service is measured against: vLLM's AsyncLLM by itself.

`.venv-vllm/bin/python -m bench._vllm_bare FOLDER` starts an engine on that model with the
arguments that the service would give it, and says "ready". Each line of its input is a
Load of bench._vllm_ways as JSON; each line of its output is then a Measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import uvloop

from bench._vllm_load import ENGINE_ARGS, MODEL
from services.vllm.arguments import engine_args
from services.vllm.config import VllmModel


async def _measure(llm: Any, prompts: list[Any], callers: int, params: Any) -> dict[str, Any]:
    made, first = 0, []
    work = iter(enumerate(prompts))

    async def caller() -> None:
        nonlocal made
        for number, prompt in work:
            begun, seen = time.perf_counter(), 0.0
            async for output in llm.generate(prompt, params, f"bare-{number}"):
                if output.outputs[0].text:  # a first token may be a part of a character
                    seen = seen or time.perf_counter()
                made += len(output.outputs[0].token_ids)
            first.append(seen - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return {"tokens": made, "seconds": time.perf_counter() - begun, "first": first}


def _tokens(tokenizer: Any, prompt: str) -> Any:
    """As the service reads a prompt, but before the clock runs."""
    from vllm.inputs.engine import tokens_input

    chat = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return tokens_input(tokenizer(text, add_special_tokens=False).input_ids)


def _answers() -> TextIO:
    """Standard output for the answers alone: what vLLM prints goes to the log."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


async def main(folder: str) -> None:
    answers = _answers()
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

    entry = VllmModel(name=MODEL, model_path=Path(folder), engine_args=ENGINE_ARGS)
    llm = AsyncLLM.from_engine_args(engine_args(entry))
    try:
        print(json.dumps("ready"), file=answers)
        while line := await asyncio.to_thread(sys.stdin.readline):
            load = json.loads(line)
            prompts = [_tokens(llm.get_tokenizer(), prompt) for prompt in load["prompts"]]
            kind = RequestOutputKind.DELTA if load["stream"] else RequestOutputKind.FINAL_ONLY
            params = SamplingParams(temperature=0, max_tokens=load["tokens"], output_kind=kind)
            measured = await _measure(llm, prompts, load["callers"], params)
            print(json.dumps(measured), file=answers)
    finally:
        llm.shutdown()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
