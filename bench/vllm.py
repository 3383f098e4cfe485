"""What the vllm service costs: `python -m bench.vllm`.

The same work on a small random model, where the engine is fastest and all that is around
it shows most, goes to vLLM's AsyncLLM by itself (bare), to the service, to the service
through the router, and to vLLM's own OpenAI server by the official client. Each has an
engine of its own with equal arguments. They take turns in short rounds, so that a noisy
machine is noisy to all; ratios are medians over the rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from bench import _util
from bench._vllm_load import ENGINE_ARGS, MODEL, PYTHON, environment, make_model, prompts
from bench._vllm_ways import Load, Measured, Way, arena, bare, openai

#: Callers, and what each asks in a round.
ROUNDS = 5
REQUESTS = {1: 3, 8: 2, 32: 1, 64: 1}
TOKENS = 64
SHORT_CALLERS, SHORT_REQUESTS, SHORT_TOKENS = 32, 4, 8


def _serve_flags(model: Path, port: int) -> list[str]:
    """What `vllm serve` runs, whose own command looks for the CUDA build, with the arguments
    that the service gives its engine on a CPU."""
    given = {**ENGINE_ARGS, "dtype": "float32", "block_size": 32, "model": model}
    given |= {"served_model_name": MODEL, "host": "127.0.0.1", "port": port}
    return [
        *("-m", "vllm.entrypoints.openai.api_server"),
        *(f"--{name.replace('_', '-')}={value}" for name, value in given.items()),
        *("--enforce-eager", "--disable-uvicorn-access-log"),
    ]


@asynccontextmanager
async def _ways(folder: Path) -> AsyncIterator[dict[str, Way]]:
    """All of them, ready. The engines start one after the other: each wants all cores."""
    service, router, server = (_util.free_port() for _ in range(3))
    model = make_model(folder / "model")
    entry = {"name": MODEL, "model_path": str(model), "engine_args": ENGINE_ARGS}
    configs = {
        "vllm_models": {"listen": f"127.0.0.1:{service}", "models": [entry]},
        "router": {
            "listen": f"127.0.0.1:{router}",
            "routes": {"vllm_": {"targets": [f"127.0.0.1:{service}"]}},
        },
    }
    for name, config in configs.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    env = {**environment(), "ARENA_CONFIG_DIR": str(folder)}
    async with AsyncExitStack() as stack:
        stack.enter_context(_util.process("-m", "router", env=env))
        own = stack.enter_context(_util.process("-m", "services.vllm", env=env, python=PYTHON))
        await asyncio.to_thread(_util.wait_serving, f"127.0.0.1:{service}", 300, own)
        alone = await stack.enter_async_context(bare(str(model)))
        flags = _serve_flags(model, server)
        serve = stack.enter_context(_util.process(*flags, env=env, python=PYTHON))
        await asyncio.to_thread(_util.wait_listening, server, 300, serve)
        yield {
            "bare": alone,
            "direct": await stack.enter_async_context(arena(f"127.0.0.1:{service}")),
            "router": await stack.enter_async_context(arena(f"127.0.0.1:{router}")),
            "vllm serve": await stack.enter_async_context(openai(f"http://127.0.0.1:{server}/v1")),
        }


async def _turns(
    ways: Mapping[str, Way],
    topic: str,
    callers: int,
    requests: int,
    tokens: int,
    *,
    stream: bool = False,
    boards: int = 2,
) -> dict[str, list[Measured]]:
    """Each way's rounds; all prompts are new, as two ways lead to the service's engine."""
    rounds: dict[str, list[Measured]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        # Who comes first changes: it finds the machine as the round before left it.
        order = [*ways][number % len(ways) :] + [*ways][: number % len(ways)]
        for name in order:
            head = f"{topic} {number} {[*ways].index(name)} {callers}"
            work = prompts(head, callers * requests, boards=boards)
            rounds[name].append(await ways[name](Load(work, callers, tokens, stream)))
    return rounds


def _rates(measured: list[Measured]) -> list[float]:
    return [each.tokens / each.seconds for each in measured]


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _throughput(rounds: dict[str, list[Measured]]) -> dict[str, dict[str, float]]:
    base = _rates(rounds["bare"])
    return {
        name: {
            "tokens_per_s": statistics.median(_rates(measured)),
            "of_bare": _ratio(_rates(measured), base),
        }
        for name, measured in rounds.items()
    }


def _first(rounds: dict[str, list[Measured]]) -> dict[str, dict[str, float]]:
    """Of all rounds' requests: the median time to the first text, how much that is over
    bare's, and how far apart the quartiles of the rounds' own medians lie: what is later
    by less than bare's spread says nothing.

    Bare has its prompts in tokens, and in the process of its engine. Of N callers at once
    the last one waits for N times what a call costs client, router and service, on the cores
    on which the engine computes: that is in these figures too.
    """
    base = statistics.median(_pooled(rounds["bare"]))
    found = {}
    for name, measured in rounds.items():
        middle = statistics.median(_pooled(measured))
        low, _, high = statistics.quantiles([statistics.median(each.first) for each in measured])
        found[name] = {
            "first_ms": 1e3 * middle,
            "later_ms": 1e3 * (middle - base),
            "spread_ms": 1e3 * (high - low),
        }
    return found


def _pooled(measured: list[Measured]) -> list[float]:
    return [first for each in measured for first in each.first]


async def _run(folder: Path) -> dict[str, Any]:
    async with _ways(folder) as ways:
        ours = {name: way for name, way in ways.items() if name != "vllm serve"}
        for way in ways.values():
            await way(Load(prompts("warm", 64), 64, 8))
        for way in ours.values():
            await way(Load(prompts("warm", 8), 8, 8, stream=True))
        whole, streamed = {}, {}
        for callers, requests in REQUESTS.items():
            rounds = await _turns(ours, "whole", callers, requests, TOKENS)
            whole[str(callers)] = _throughput(rounds)
            rounds = await _turns(ours, "stream", callers, requests, TOKENS, stream=True)
            streamed[str(callers)] = {
                name: {**figures, **_first(rounds)[name]}
                for name, figures in _throughput(rounds).items()
            }
        rounds = await _turns(ways, "short", SHORT_CALLERS, SHORT_REQUESTS, SHORT_TOKENS, boards=0)
        rates = {name: _rates(measured) for name, measured in rounds.items()}
    return {
        "whole": whole,
        "stream": streamed,
        "short": {
            name: {
                "requests_per_s": statistics.median(each) / SHORT_TOKENS,
                "of_vllm_serve": _ratio(each, rates["vllm serve"]),
            }
            for name, each in rates.items()
        },
    }


def _print(results: dict[str, Any]) -> None:
    for kind, title in (("whole", "whole replies"), ("stream", "streams")):
        rows = [
            [f"{way}, {callers} at once", *figures.values()]
            for callers, ways in results[kind].items()
            for way, figures in ways.items()
        ]
        header = ["way", "tokens/s", "x bare", "first text ms", "later than bare ms", "spread ms"]
        width = 1 + len(next(iter(results[kind]["1"].values())))
        _util.print_table(f"vllm: {title} of {TOKENS} tokens", header[:width], rows)
    rows = [[way, *figures.values()] for way, figures in results["short"].items()]
    _util.print_table(
        f"vllm: {SHORT_CALLERS} at once, prompts of 32 tokens, replies of {SHORT_TOKENS}",
        ["way", "requests/s", "x vllm serve"],
        rows,
    )


def main() -> None:
    """Print the tables and write the JSON."""
    if not PYTHON.exists():
        print("\nvllm: not measured, as .venv-vllm is missing: make setup-vllm")
        return
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(_run(Path(folder)))
    _print(results)
    _util.write_results("vllm", results)


if __name__ == "__main__":
    main()
