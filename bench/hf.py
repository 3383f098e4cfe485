"""What the hf service reaches: `python -m bench.hf`.

The embedded model answers through client, router and service, and bare transformers
does the same work by itself, one after the other on the same machine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from arena_llm import AsyncClient, Client
from bench import _util
from bench._hf_load import long_prompt, story_prompts
from services.hf.embedded import default_folder, prepare

MODEL = "hf_bench"
TOKENS = 48
CALLERS = (1, 8, 32)


@contextmanager
def system(folder: Path) -> Iterator[tuple[str, int]]:
    """Router and hf service on free ports; yields the router's target and hf's pid."""
    hf_port, router_port = _util.free_port(), _util.free_port()
    with ExitStack() as stack:
        configs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (configs / "hf_models.yaml").write_text(
            f"listen: 127.0.0.1:{hf_port}\n"
            f"models: [{{name: {MODEL}, model_path: {folder.resolve()}, preload: true}}]\n"
        )
        (configs / "router.yaml").write_text(
            f"listen: 127.0.0.1:{router_port}\n"
            f"routes: {{hf_: {{targets: ['127.0.0.1:{hf_port}']}}}}\n"
        )
        env = {"ARENA_CONFIG_DIR": str(configs)}
        service = stack.enter_context(_util.process("-m", "services.hf", env=env))
        stack.enter_context(_util.process("-m", "router", env=env))
        _util.wait_serving(f"127.0.0.1:{hf_port}", 120)
        _util.wait_serving(f"127.0.0.1:{router_port}")
        yield f"127.0.0.1:{router_port}", service.pid


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
    """Median time of a move among nine digits, and its prompt's tokens."""
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
    """Measure, print a table, return the figures."""
    folder = default_folder()
    prepare(folder)
    bare_run = subprocess.run(
        [sys.executable, "-m", "bench._bare_hf", str(folder), str(TOKENS), str(CALLERS[-1])],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    bare = json.loads(bare_run.stdout)
    with system(folder) as (target, pid):
        asyncio.run(_tokens_per_second(target, 1))
        rates = {callers: asyncio.run(_tokens_per_second(target, callers)) for callers in CALLERS}
        move, prompt_tokens = _constrained_seconds(target)
        cancel, step = _cancel_seconds(target)
        memory = _util.rss_mb(pid)
    most = CALLERS[-1]
    figures = {
        "tokens_per_second": {str(callers): rate for callers, rate in rates.items()},
        "bare": bare,
        "service_over_one_by_one": rates[most] / bare["one_by_one"],
        "service_over_batch": rates[most] / bare["batch"],
        "service_over_batch_tuned": rates[most] / bare["batch_tuned"],
        "move_seconds": move,
        "move_prompt_tokens": prompt_tokens,
        "move_over_forward": move / bare["forward_seconds"],
        "cancel_seconds": cancel,
        "step_seconds": step,
        "memory_mb": memory,
    }
    rows = [[f"service, {callers} callers", rate] for callers, rate in rates.items()]
    rows += [[f"bare generate, {name}", bare[name]] for name in ("one_by_one", "batch")]
    rows.append(["bare generate, batch, tuned memory", bare["batch_tuned"]])
    rows.append(["bare continuous batching, tuned memory", bare["continuous_tuned"]])
    _util.print_table(f"hf: tokens/s, {TOKENS} tokens a reply", ["way", "tokens/s"], rows)
    _util.print_table(
        "hf: ratios",
        ["figure", "value", "wanted"],
        [
            [f"{most} callers / one by one", figures["service_over_one_by_one"], ">= 5"],
            [f"{most} callers / batch of {most}", figures["service_over_batch"], ">= 0.9"],
            ["the same, batch with tuned memory", figures["service_over_batch_tuned"], ""],
            [f"move of {prompt_tokens} tokens / forward", figures["move_over_forward"], "<= 1.5"],
            ["cancel to empty engine, ms", cancel * 1e3, "<= 100 or a step"],
            ["one decoding step, ms", step * 1e3, ""],
        ],
    )
    return figures


if __name__ == "__main__":
    _util.write_results("hf", run())
