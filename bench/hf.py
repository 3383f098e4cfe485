"""The speed of the hf service: `python -m bench.hf`.

The embedded model answers through client, router and service, once on each engine. Bare loops over
transformers and over OpenVINO decode as many rows in a process of their own: `python -m bench.hf
bare FOLDER`. All take turns, so that noise of the machine affects all of them.
"""

from __future__ import annotations

import asyncio
import itertools
import operator
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from arena_llm import AsyncClient, Client
from bench import harness
from bench.goals import Goal
from services.common.local.checks import embedded_folder
from services.hf.embedded import prepare

#: Engine -> the keys of its entry. The others are compared with transformers.
ENGINES = {
    "transformers": {"engine": "transformers"},
    "exact": {"engine": "openvino"},
    "fast": {"engine": "openvino", "precision": "fast"},
}
TOKENS = 48
CALLERS = (1, 8, 32)
ROUNDS = 3
#: The engines that have a bare loop.
BARE = ("transformers", "exact")
DIGITS = [str(digit) for digit in range(9)]
#: Callers of choices beside one stream, callers that play, and many callers beside one stream.
CHOOSING, GAMES, MIXED = 12, 20, 32
#: Requests whose log-probabilities are compared alone and together.
TOGETHER = 32
#: Memory for prefixes, as in the shipped configuration: the default would hold 0.5 GB of them.
PREFIXES_GB = 0.1
SECONDS = 4.0
#: Seconds of a stream beside callers of choices, who get only few choices in this time.
BESIDE_SECONDS = 12.0


def _goals() -> Iterator[Goal]:
    """The goals, as ratios to the engine of transformers or as values."""
    for engine, shares in (("exact", (3, 2.3, 1.8)), ("fast", (3.3, 4, 3))):
        for callers, share in zip(CALLERS, shares, strict=True):
            figure = f"{engine}: tokens/s of transformers, callers: {callers}"
            place = ("ratios", engine, f"tokens_per_second_{callers}")
            yield Goal(figure, place, ">=", share, "x")
    for callers in CALLERS:
        figure = f"exact: tokens/s of the bare loop, callers: {callers}"
        yield Goal(figure, ("of_bare", "exact", str(callers)), ">=", 0.9, "x")
    ratios, values = ("ratios", "exact"), ("engines", "exact")
    yield Goal("exact: time of a move, of transformers, prompt of 300 new tokens",
               (*ratios, "cold_move_seconds"), "<=", 0.7, "x")  # fmt: skip
    yield Goal("exact: a move whose prompt is known", (*values, "known_move_seconds"),
               "<=", 0.03, "s")  # fmt: skip
    yield Goal(f"exact: moves/s of transformers, {GAMES} games", (*ratios, "moves_per_second"),
               ">=", 2.5, "x")  # fmt: skip
    yield Goal(f"exact: tokens/s that a stream keeps beside {CHOOSING} callers of choices",
               (*values, "stream_kept"), ">=", 0.5, "%")  # fmt: skip
    yield Goal("exact: choices/s of transformers beside that stream",
               (*ratios, "choices_per_second"), ">=", 0.7, "x")  # fmt: skip
    yield Goal(f"exact: p99 between two tokens beside {MIXED} callers, in steps",
               (*values, "gap_p99_over_step"), "<=", 3)  # fmt: skip
    yield Goal("exact: memory of the service after all this", (*values, "memory_mb"),
               "<=", 600, "MB")  # fmt: skip
    for engine in ("exact", "fast"):
        yield Goal(f"{engine}: requests with equal bits alone and among {TOGETHER}",
                   ("engines", engine, "equal_bits"), ">=", 1, "%")  # fmt: skip


GOALS = tuple(_goals())

_THINGS = ("river", "clock", "garden", "bridge", "lamp", "forest", "train", "island")
_PEOPLE = ("a baker", "a sailor", "a teacher", "a painter")
_unique = itertools.count()


def name(engine: str) -> str:
    """The model that runs on an engine."""
    return f"hf_bench-{engine}"


def story_prompts(count: int) -> list[str]:
    """Prompts of about 60 tokens, whose answers are longer than any limit used here."""
    rules = "Write in plain words, in the past tense, and describe every scene with care. "
    return [
        f"{rules * 2}Tell a very long story about {_PEOPLE[i % len(_PEOPLE)]} and the "
        f"{_THINGS[i % len(_THINGS)]} number {i}."
        for i in range(count)
    ]


def game_prompt(*, new: bool = True) -> str:
    """A game prompt of about 300 tokens. new: no other prompt begins like it."""
    board = "Row one: empty, X, O. Row two: X, O, empty. Row three: empty, empty, X. "
    return (
        f"Game {next(_unique) if new else 'A'}. You play tic-tac-toe as O. The cells are numbered "
        f"0 to 8, row by row. {board * 8}Answer with the number of the cell you choose."
    )


# Bare loops


def bare(folder: str) -> None:
    """Decode without a service. Reads lines "WAY ROWS", and answers each with the tokens/s."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from services.hf.openvino.compiled import Chunk, CompiledModel
    from services.hf.openvino.exports import make_export
    from services.hf.transformers_model import tune_cpu

    logging.disable_progress_bar()
    tune_cpu(None)
    text = [*range(100, 160)]
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    export = make_export(Path(folder), half=False)
    model = CompiledModel(export.file, export.tokens, "exact")
    model.allocate(1 + 4 * max(CALLERS))  # four blocks have the tokens of all steps

    def transformers_step(rows: int) -> Callable[[], object]:
        cache = plain(torch.tensor([text] * rows)).past_key_values

        def step() -> object:
            output = plain(torch.full((rows, 1), 7), past_key_values=cache)
            return output.logits[:, -1].argmax(-1).tolist()

        return step

    def openvino_step(rows: int) -> Callable[[], object]:
        blocks = [[*range(1 + 4 * row, 5 + 4 * row)] for row in range(rows)]
        model.run([Chunk(text, 0, row) for row in blocks])
        past = itertools.count(len(text))

        def step() -> object:
            place = next(past)
            return np.argmax(model.run([Chunk([7], place, row) for row in blocks]), axis=-1)

        return step

    ways = {"transformers": transformers_step, "exact": openvino_step}
    with torch.inference_mode():
        for line in sys.stdin:
            way, rows = line.split()
            step = ways[way](int(rows))
            begun = time.perf_counter()
            for _ in range(TOKENS):
                step()
            print(int(rows) * TOKENS / (time.perf_counter() - begun), flush=True)


@contextmanager
def bare_loops(folder: Path) -> Iterator[Callable[[str, int], float]]:
    """Yield a function that returns the tokens/s of a way (see BARE) with a number of rows."""
    command = [sys.executable, "-m", "bench.hf", "bare", str(folder)]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert running.stdin is not None
    assert running.stdout is not None
    requests, rates = running.stdin, running.stdout

    def measure(way: str, rows: int) -> float:
        requests.write(f"{way} {rows}\n")
        requests.flush()
        return float(rates.readline())

    try:
        yield measure
    finally:
        requests.close()
        running.wait(timeout=30)


# The service


@contextmanager
def embedded_system(engine: str) -> Iterator[harness.System]:
    """Router and hf service with the embedded model on one engine."""
    folder = embedded_folder()
    prepare(folder)
    entry: dict[str, Any] = {
        "name": name(engine),
        "model_path": str(folder.resolve()),
        "preload": True,
        "prefix_cache_gb": PREFIXES_GB,
    }
    with ExitStack() as stack:
        models = [{**entry, **ENGINES[engine]}]
        yield harness.System(stack, "hf", {"device": "cpu", "models": models})


async def _tokens_per_second(target: str, model: str, callers: int) -> float:
    async with AsyncClient(target) as llm:
        begun = time.perf_counter()
        replies = await asyncio.gather(
            *(
                llm.generate(model, prompt, max_tokens=TOKENS, temperature=0)
                for prompt in story_prompts(callers)
            )
        )
        elapsed = time.perf_counter() - begun
    return sum(reply.usage.completion_tokens for reply in replies) / elapsed


def _move_seconds(target: str, model: str, *, new: bool) -> float:
    """The time of a move among nine digits. new: its prompt was not read before."""
    with Client(target) as llm:
        llm.generate(model, game_prompt(new=new), choices=DIGITS)
        prompts = [game_prompt(new=new) for _ in range(4)]
        begun = time.perf_counter()
        for prompt in prompts:
            llm.generate(model, prompt, choices=DIGITS)
        return (time.perf_counter() - begun) / len(prompts)


async def _moves_per_second(target: str, model: str, callers: int) -> float:
    """Many games: each requests a move among nine digits, one after the other."""
    async with AsyncClient(target) as llm:
        run = await harness.drive(
            lambda: llm.generate(model, game_prompt(), choices=DIGITS), callers, SECONDS
        )
    return run.rate


async def _beside_choices(target: str, model: str, callers: int) -> tuple[list[float], float]:
    """The arrivals of a stream's tokens beside callers of choices, and the choices/s."""
    arrivals: list[float] = []
    async with AsyncClient(target) as llm:

        async def stream() -> None:
            while True:
                prompt = story_prompts(1)[0]
                async for _ in llm.stream(model, prompt, max_tokens=200, temperature=0):
                    arrivals.append(time.perf_counter())

        async def choose() -> None:
            while True:
                await llm.generate(model, game_prompt(), choices=DIGITS)
                chosen.append(time.perf_counter())

        chosen: list[float] = []
        streaming = asyncio.create_task(stream())
        await asyncio.sleep(SECONDS)  # the stream alone
        begun = time.perf_counter()
        tasks = [streaming, *(asyncio.create_task(choose()) for _ in range(callers))]
        await asyncio.sleep(BESIDE_SECONDS)
        rate = len(chosen) / BESIDE_SECONDS
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [at - begun for at in arrivals], rate


async def _equal_bits(target: str, model: str) -> float:
    """The share of requests with the same text and log-probabilities alone and among others."""
    prompts = story_prompts(TOGETHER)

    async with AsyncClient(target) as llm:

        async def ask(index: int) -> object:
            reply = await llm.generate(
                model, prompts[index], max_tokens=8, seed=index, top_logprobs=0
            )
            trace = reply.completion_tokens
            return reply.text, trace and trace.logprobs

        alone = [await ask(index) for index in range(TOGETHER)]
        together = await asyncio.gather(*map(ask, range(TOGETHER)))
    return sum(map(operator.eq, alone, together)) / TOGETHER


def _gaps(arrivals: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(arrivals)]


def _mixed(target: str, model: str) -> dict[str, float]:
    """One stream: its tokens/s alone and beside callers of choices, and what these get."""
    arrivals, choices = asyncio.run(_beside_choices(target, model, CHOOSING))
    alone = [at for at in arrivals if at < 0]
    beside = [at for at in arrivals if at >= 0]
    many, _ = asyncio.run(_beside_choices(target, model, MIXED))
    step = statistics.median(_gaps([at for at in many if at < 0]) or [SECONDS])
    gaps = _gaps([at for at in many if at >= 0]) or [SECONDS]
    return {
        # Tokens/s: the choices may take longer than the stream had alone.
        "stream_kept": len(beside) / beside[-1] / (len(alone) / -alone[0]) if beside else 0.0,
        "choices_per_second": choices,
        "gap_p99_over_step": harness.percentile(gaps, 0.99) / step,
    }


def run() -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    prepare(embedded_folder(), weights=True)
    rates: dict[str, dict[str, float]] = {way: {} for way in BARE}
    figures: dict[str, dict[str, float]] = {engine: {} for engine in ENGINES}
    with ExitStack() as stack:
        loops = stack.enter_context(bare_loops(embedded_folder()))
        systems = {engine: stack.enter_context(embedded_system(engine)) for engine in ENGINES}
        for measure, better, rounds, callers in _measures():
            for _ in range(rounds):  # the engines, and their bare loops, take turns
                for way in BARE if callers else ():
                    rate = loops(way, callers)
                    rates[way][str(callers)] = max(rate, rates[way].get(str(callers), 0.0))
                for engine, system in systems.items():
                    for figure, value in measure(system.target, name(engine)).items():
                        before = figures[engine].get(figure, value)
                        figures[engine][figure] = better(value, before)
        for engine, system in systems.items():
            figures[engine]["ready_seconds"] = system.ready_seconds
            figures[engine]["memory_mb"] = harness.rss_mb(system.pids["service"])
    plain = figures["transformers"]
    return {
        "engines": figures,
        "ratios": {
            engine: {name: values[name] / base if base else 0.0 for name, base in plain.items()}
            for engine, values in figures.items()
        },
        "bare": rates,
        "of_bare": {
            way: {
                rows: figures[way][f"tokens_per_second_{rows}"] / rate
                for rows, rate in by_rows.items()
            }
            for way, by_rows in rates.items()
        },
    }


Measure = Callable[[str, str], dict[str, float]]


def _measures() -> Iterator[tuple[Measure, Callable[[float, float], float], int, int]]:
    """Yield each measure, which of two values to keep, the rounds, and a bare loop's rows or 0."""
    for callers in CALLERS:

        def rate(target: str, model: str, callers: int = callers) -> dict[str, float]:
            speed = asyncio.run(_tokens_per_second(target, model, callers))
            return {f"tokens_per_second_{callers}": speed}

        yield rate, max, ROUNDS, callers
    for new, figure in ((True, "cold_move_seconds"), (False, "known_move_seconds")):

        def move(
            target: str, model: str, new: bool = new, figure: str = figure
        ) -> dict[str, float]:
            return {figure: _move_seconds(target, model, new=new)}

        yield move, min, ROUNDS, 0
    yield lambda t, m: {"moves_per_second": asyncio.run(_moves_per_second(t, m, GAMES))}, max, 2, 0
    yield _mixed, max, 1, 0
    yield lambda t, m: {"equal_bits": asyncio.run(_equal_bits(t, m))}, min, 1, 0


def main() -> None:
    """Print the tables and write the JSON."""
    results = run()
    engines, ratios = results["engines"], results["ratios"]
    rows: list[list[object]] = []
    for figure, base in engines["transformers"].items():
        pairs = [(engines[e][figure], ratios[e][figure]) for e in ("exact", "fast")]
        rows.append([figure, base, *itertools.chain(*pairs)])
    header = ["figure", "transformers", "exact", "ratio", "fast", "ratio"]
    harness.print_table(f"hf: the embedded model, {TOKENS} tokens a reply", header, rows)
    rows = [
        [way, *by_rows.values(), *results["of_bare"][way].values()]
        for way, by_rows in results["bare"].items()
    ]
    header = [
        "bare loop, tokens/s",
        *(f"{rows} rows" for rows in CALLERS),
        *(f"service / bare, {rows}" for rows in CALLERS),
    ]
    harness.print_table("hf: without the service", header, rows)
    harness.write_results("hf", GOALS, results)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", folder]:
            bare(folder)
        case _:
            main()
