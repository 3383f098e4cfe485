"""Whose cache knows a game: `python -m bench.vllm_replicas`.

Two replicas of the vllm service stand behind one route. Games of nine plies run at once,
each a conversation that grows with every move, and the engines' own counters tell how
many prompt tokens they looked up in their prefix caches and found. First with sessions
kept on one replica, then with each call to the next replica in turn.

A replica's cache holds the ends of ROOM games, so that both together hold the sixteen.
That is where affinity counts: in turn, each cache would have to hold all of them. Four
games fit either way; there a game in turn finds its last prompt but one, or an older one.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from arena_llm import AsyncClient, Message
from bench import _util
from bench._vllm_load import MODEL, PYTHON, environment, make_model

GAMES = (16, 4)
PLIES = 9
ROOM = 8
#: Tokens of a game's last prompt, and bytes of one in the cache: keys and values of 4
#: layers with 4 heads of 32 float32 numbers.
_LAST_PROMPT, _TOKEN_BYTES = 760, 2 * 4 * 4 * 32 * 4
_MOVE = "The player looks at the board once more, thinks and takes cell {}. Your move?"


@contextmanager
def _system(folder: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
    """A router for each policy before two replicas; the targets, and where metrics are."""
    entry = {
        "name": MODEL,
        "model_path": str(make_model(folder / "model")),
        "engine_args": {"kv_cache_memory_bytes": ROOM * _LAST_PROMPT * _TOKEN_BYTES},
    }
    replicas, metrics = (
        [f"127.0.0.1:{_util.free_port()}" for _ in range(2)] for _ in ("replicas", "metrics")
    )
    targets: dict[str, str] = {}
    with ExitStack() as stack:
        for number, (listen, where) in enumerate(zip(replicas, metrics, strict=True)):
            path = folder / f"vllm_{number}.yaml"
            path.write_text(yaml.safe_dump({"listen": listen, "metrics": where, "models": [entry]}))
            arguments = ("-m", "services.vllm", "--config", str(path))
            service = stack.enter_context(
                _util.process(*arguments, env=environment(), python=PYTHON)
            )
            _util.wait_serving(listen, 300, service)
        for policy in ("session", "round_robin"):
            targets[policy] = f"127.0.0.1:{_util.free_port()}"
            route = {"targets": replicas, "policy": policy}
            path = folder / f"{policy}.yaml"
            path.write_text(yaml.safe_dump({"listen": targets[policy], "routes": {"vllm_": route}}))
            stack.enter_context(_util.process("-m", "router", "--config", str(path)))
            _util.wait_serving(targets[policy])
        yield targets, metrics


def _counters(metrics: list[str]) -> tuple[int, ...]:
    """Prompt tokens looked up and found in the caches of all replicas."""
    pages = []
    for address in metrics:
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            pages.append(answer.read().decode())
    return tuple(
        sum(int(float(value)) for page in pages for value in re.findall(pattern, page))
        for pattern in (
            rf"vllm:prefix_cache_{name}_total{{.*}} (\S+)" for name in ("queries", "hits")
        )
    )


async def _game(llm: AsyncClient, name: str) -> None:
    talk = [Message("user", f"{name} begins. {_MOVE.format(0)}")]
    for ply in range(PLIES):
        reply = await llm.generate(MODEL, messages=talk, session=name, max_tokens=8, temperature=0)
        talk += [Message("assistant", reply.text), Message("user", _MOVE.format(ply))]


async def _play(target: str, policy: str, games: int) -> None:
    async with AsyncClient(target) as llm:
        names = (f"{number} of {games}, {policy}," for number in range(games))
        await asyncio.gather(*(_game(llm, name) for name in names))


def run() -> dict[str, Any]:
    """Measure; returns what `main` prints and writes."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, _system(Path(folder)) as (targets, metrics):
        for games in GAMES:
            rates = {}
            for policy, target in targets.items():
                before = _counters(metrics)
                asyncio.run(_play(target, policy, games))
                after = _counters(metrics)
                queries, hits = (b - a for a, b in zip(before, after, strict=True))
                rates[policy] = {"queries": queries, "hits": hits, "hit_rate": hits / queries}
            ratio = rates["session"]["hit_rate"] / rates["round_robin"]["hit_rate"]
            results[str(games)] = {**rates, "session_over_round_robin": ratio}
    return results


def main() -> None:
    """Print the table and write the JSON."""
    if not PYTHON.exists():
        print("\nvllm_replicas: not measured, as .venv-vllm is missing: make setup-vllm")
        return
    results = run()
    rows = [
        [
            f"{games} games at once",
            figures["session"]["hit_rate"],
            figures["round_robin"]["hit_rate"],
            figures["session_over_round_robin"],
        ]
        for games, figures in results.items()
    ]
    _util.print_table(
        f"vllm: prefix-cache hits of two replicas, each with room for {ROOM} games",
        ["games", "session", "round robin", "ratio"],
        rows,
    )
    _util.write_results("vllm_replicas", results)


if __name__ == "__main__":
    main()
