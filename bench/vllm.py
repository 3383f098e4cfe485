"""The cost of the vllm service: `python -m bench.vllm`.

The same work goes to vLLM's AsyncLLM by itself (bare), to the service, to the service through
the router, and with the official client to vLLM's own OpenAI server. Bare, service and server each
have their own engine, with equal arguments. The model is small and random, so its engine is fast,
and the cost of everything around the engine is easy to see.

`.venv-vllm/bin/python -m bench.vllm bare FOLDER` is the bare engine: it says "ready", reads a
Load as JSON from each line of its input, and answers with a Measured on a line.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from arena_llm import AsyncClient
from bench import harness
from bench.goals import Goal

#: The interpreter of vLLM's environment.
PYTHON = Path(".venv-vllm/bin/python")
MODEL = "vllm_small"

#: Callers, and how many requests each sends in a round.
REQUESTS = {1: 3, 8: 2, 32: 1, 64: 1}
ROUNDS = 5
TOKENS = 64
SHORT_CALLERS, SHORT_REQUESTS, SHORT_TOKENS = 32, 4, 8

#: Arguments of every engine, beside those that the service gives on a CPU.
ENGINE_ARGS: dict[str, Any] = {"kv_cache_memory_bytes": 256 << 20}

#: Variables that vLLM reads, the same for all ways. The service sets its own.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}

#: A Llama of 3 million parameters.
_SIZE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
}

_BOARD = "The board is full of choices: 0 1 2 3 4 5 6 7 8. Yes or no? "


@dataclass(frozen=True)
class Load:
    """The work of one round: these prompts, from this many callers, with `tokens` tokens each."""

    prompts: list[str]
    callers: int
    tokens: int
    stream: bool = False


@dataclass(frozen=True)
class Measured:
    """first: of streams, the seconds to the first text of each prompt."""

    tokens: int
    seconds: float
    first: list[float]


GOALS = (
    *(
        Goal(f"tokens/s of the bare engine, callers: {callers}",
             ("whole", str(callers), "router", "x_bare"), ">=", 0.95, "x")
        for callers in REQUESTS
    ),
    *(
        Goal(f"first text, later than of the bare engine, callers: {callers}",
             ("stream", str(callers), "router", "later_ms"), "<=", 5, "ms")
        for callers in REQUESTS
    ),
    Goal("requests/s of vllm serve, 32 callers, short replies",
         ("short", "router", "x_vllm_serve"), ">=", 1.2, "x"),
)  # fmt: skip

Way = Callable[[Load], Awaitable[Measured]]

#: Answers a prompt; returns its tokens, and when the first one came, if that is seen.
Ask = Callable[[str, int], Awaitable[tuple[int, float]]]


def make_model(folder: Path) -> Path:
    """A small random model, whose replies end only at their limit."""
    from safetensors.torch import load_file, save_file

    from tests.support.tiny_models import make_checkpoint

    make_checkpoint(folder, "llama", chat=True, **_SIZE)
    weights = load_file(folder / "model.safetensors")
    # With a logit of zero the end token is never the likeliest.
    weights["lm_head.weight"][1] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_prompts(topic: str, count: int, *, boards: int = 2) -> list[str]:
    """Prompts of 32 tokens, and 35 more for each board. They share only the chat's first words."""
    return [f"{topic} {number}. {_BOARD * boards}Your move?" for number in range(count)]


async def _measure(ask: Ask, load: Load) -> Measured:
    made, first = 0, []
    work = iter(load.prompts)

    async def caller() -> None:
        nonlocal made
        for prompt in work:
            begun = time.perf_counter()
            tokens, seen = await ask(prompt, load.tokens)
            made += tokens
            first.append(seen - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(load.callers)))
    elapsed = time.perf_counter() - begun
    assert made == load.tokens * len(load.prompts), f"{made} tokens"
    return Measured(made, elapsed, first if load.stream else [])


# The ways


@asynccontextmanager
async def arena(target: str) -> AsyncIterator[Way]:
    """This system's client; target: the router or the service."""
    async with AsyncClient(target) as llm:

        async def whole(prompt: str, tokens: int) -> tuple[int, float]:
            reply = await llm.generate(MODEL, prompt, max_tokens=tokens, temperature=0)
            return reply.usage.completion_tokens, 0.0

        async def stream(prompt: str, tokens: int) -> tuple[int, float]:
            first = 0.0
            answer = llm.stream(MODEL, prompt, max_tokens=tokens, temperature=0)
            async for _ in answer:
                first = first or time.perf_counter()
            return answer.completion.usage.completion_tokens, first

        yield lambda load: _measure(stream if load.stream else whole, load)


def openai(url: str) -> Way:
    """The official client and vLLM's server; whole replies."""
    from openai import AsyncOpenAI

    async def run(load: Load) -> Measured:
        # A client for each round: the server closes connections that are idle for five seconds.
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

            async def whole(prompt: str, tokens: int) -> tuple[int, float]:
                reply = await client.chat.completions.create(
                    model=MODEL,
                    messages=[{"role": "user", "content": prompt}],
                    max_tokens=tokens,
                    temperature=0,
                )
                assert reply.usage is not None
                return reply.usage.completion_tokens, 0.0

            return await _measure(whole, load)

    return run


@asynccontextmanager
async def bare(folder: str) -> AsyncIterator[Way]:
    """vLLM by itself; ready when this yields."""
    with tempfile.TemporaryFile("w+") as log:
        process = await asyncio.create_subprocess_exec(
            str(PYTHON), "-m", "bench.vllm", "bare", folder,
            stdin=PIPE, stdout=PIPE, stderr=log, env={**os.environ, **ENVIRONMENT}, limit=1 << 24,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        async def answer() -> Any:
            assert process.stdout is not None
            if not (line := await process.stdout.readline()):
                log.seek(0)
                raise RuntimeError(f"the bare engine has ended:\n{log.read()}")
            return json.loads(line)

        async def ask(load: Load) -> Measured:
            assert process.stdin is not None
            process.stdin.write(json.dumps(asdict(load)).encode() + b"\n")
            return Measured(**await answer())

        try:
            await answer()  # "ready"
            yield ask
        finally:
            process.stdin.close()  # the process ends with its input
            await process.wait()


async def serve_bare(folder: str) -> None:
    """Run the bare engine, in .venv-vllm."""
    from vllm.inputs.engine import tokens_input
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

    from services.vllm.arguments import engine_args
    from services.vllm.config import VllmModel

    # Standard output is for the answers alone; what vLLM prints goes to the log.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    entry = VllmModel(name=MODEL, model_path=Path(folder), engine_args=ENGINE_ARGS)
    llm: Any = AsyncLLM.from_engine_args(engine_args(entry))
    tokenizer = llm.get_tokenizer()

    def tokenize(prompt: str) -> Any:
        chat = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return tokens_input(tokenizer(text, add_special_tokens=False).input_ids)

    async def run(load: Load) -> Measured:
        # As the service tokenizes a prompt, but before the clock runs.
        inputs = {prompt: tokenize(prompt) for prompt in load.prompts}
        kind = RequestOutputKind.DELTA if load.stream else RequestOutputKind.FINAL_ONLY
        params = SamplingParams(temperature=0, max_tokens=load.tokens, output_kind=kind)

        async def ask(prompt: str, _: int) -> tuple[int, float]:
            made, first = 0, 0.0
            async for output in llm.generate(inputs[prompt], params, prompt):
                if output.outputs[0].text:  # a first token may be a part of a character
                    first = first or time.perf_counter()
                made += len(output.outputs[0].token_ids)
            return made, first

        return await _measure(ask, load)

    try:
        print(json.dumps("ready"), file=answers)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(asdict(await run(Load(**json.loads(line))))), file=answers)
    finally:
        llm.shutdown()


@asynccontextmanager
async def _ways(folder: Path) -> AsyncIterator[dict[str, Way]]:
    """Yield all ways, ready to use. The engines start one by one, because each uses all cores."""
    model = str(make_model(folder / "model"))
    entry = {"name": MODEL, "model_path": model, "engine_args": ENGINE_ARGS}
    server = harness.free_address()
    # `vllm serve` looks for the CUDA build. The arguments are those that the service gives its
    # engine on a CPU.
    arguments = {**ENGINE_ARGS, "dtype": "float32", "block_size": 32, "model": model}
    arguments |= {"served_model_name": MODEL, "host": "127.0.0.1"}
    arguments["port"] = server.rpartition(":")[2]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in arguments.items()]
    flags += ["--enforce-eager", "--disable-uvicorn-access-log"]
    async with AsyncExitStack() as stack:
        processes = stack.enter_context(ExitStack())
        system = await asyncio.to_thread(
            harness.System, processes, "vllm", {"models": [entry]}, ENVIRONMENT, PYTHON
        )
        alone = await stack.enter_async_context(bare(model))
        serve = stack.enter_context(
            harness.process(
                "vllm.entrypoints.openai.api_server", *flags, env=ENVIRONMENT, python=PYTHON
            )
        )
        await asyncio.to_thread(harness.wait_listening, server, serve, 300)
        yield {
            "bare": alone,
            "direct": await stack.enter_async_context(arena(system.service)),
            "router": await stack.enter_async_context(arena(system.target)),
            "vllm serve": openai(f"http://{server}/v1"),
        }


# What is measured


async def _take_turns(
    ways: Mapping[str, Way],
    topic: str,
    callers: int,
    requests: int,
    tokens: int,
    *,
    stream: bool = False,
    boards: int = 2,
) -> dict[str, list[Measured]]:
    """The rounds of each way. Every prompt is new, because two ways share an engine."""
    rounds: dict[str, list[Measured]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(ROUNDS):
        # Each round begins with another way: the first finds the machine as the last round left it.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            head = f"{topic} {number} {names.index(name)} {callers}"
            prompts = make_prompts(head, callers * requests, boards=boards)
            rounds[name].append(await ways[name](Load(prompts, callers, tokens, stream)))
    return rounds


def _rates(measured: list[Measured]) -> list[float]:
    return [each.tokens / each.seconds for each in measured]


def _compare(rounds: dict[str, list[Measured]]) -> dict[str, dict[str, float]]:
    """Tokens per second of each way, and the median time to the first text of streams.

    The bare engine gets its prompts as tokens, in its own process. With N callers, the last one
    also waits for the CPU time of N calls in client, router and service, on the engine's cores.
    """
    base = _rates(rounds["bare"])
    table: dict[str, dict[str, float]] = {}
    for name, measured in rounds.items():
        rates = _rates(measured)
        table[name] = {
            "tokens_per_s": statistics.median(rates),
            "x_bare": harness.ratio(rates, base),
        }
        if first := [seconds for each in measured for seconds in each.first]:
            table[name]["first_ms"] = 1e3 * statistics.median(first)
            table[name]["later_ms"] = table[name]["first_ms"] - table["bare"]["first_ms"]
    return table


async def run(folder: Path) -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    results: dict[str, Any] = {"whole": {}, "stream": {}}
    async with _ways(folder) as ways:
        ours = {name: way for name, way in ways.items() if name != "vllm serve"}
        for way in ways.values():
            await way(Load(make_prompts("warm", 64), 64, 8))
        for way in ours.values():
            await way(Load(make_prompts("warm", 8), 8, 8, stream=True))
        for callers, requests in REQUESTS.items():
            for kind in ("whole", "stream"):
                rounds = await _take_turns(
                    ours, kind, callers, requests, TOKENS, stream=kind == "stream"
                )
                results[kind][str(callers)] = _compare(rounds)
        rounds = await _take_turns(
            ways, "short", SHORT_CALLERS, SHORT_REQUESTS, SHORT_TOKENS, boards=0
        )
    served = _rates(rounds["vllm serve"])
    results["short"] = {
        name: {
            "requests_per_s": statistics.median(_rates(measured)) / SHORT_TOKENS,
            "x_vllm_serve": harness.ratio(_rates(measured), served),
        }
        for name, measured in rounds.items()
    }
    return results


def main() -> None:
    """Print the tables and write the JSON."""
    if not PYTHON.exists():
        print("\nvllm: not measured, because .venv-vllm is missing: make setup-vllm")
        return
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(run(Path(folder)))
    for kind, title in (("whole", "whole replies"), ("stream", "streams")):
        rows = {
            f"{way}, {callers} callers": values
            for callers, ways in results[kind].items()
            for way, values in ways.items()
        }
        harness.print_ways(f"vllm: {title} of {TOKENS} tokens", rows)
    title = f"vllm: {SHORT_CALLERS} callers, prompts of 32 tokens, replies of {SHORT_TOKENS}"
    harness.print_ways(title, results["short"])
    harness.write_results("vllm", GOALS, results)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", folder]:
            import uvloop

            uvloop.run(serve_bare(folder))
        case _:
            main()
