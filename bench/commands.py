"""What a newcomer waits for: `python -m bench.commands [PART...]`.

fresh: in a clone of the last commit, with an empty home and uv's cache of packages: `make setup`,
    and `make up` until the embedded model has answered. Then the memory of the hf service after
    some moves, and the whole command `arena exploitability`, each time after a restart of the
    service.
unit_tests: `make test-fast` in this folder.

With names of parts it runs and prints only these, and writes nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bench import harness
from bench.goals import Goal

if TYPE_CHECKING:
    from tests.support.system import System

ROOT = Path(__file__).parent.parent
MODEL = "hf_smollm2-135m-instruct"
#: Games, and how often each is scored.
ROUNDS = {"kuhn_poker": 3, "leduc_poker": 1}
MOVES = 20

GOALS = (
    Goal("fresh clone: make setup and make up, to the first answer", ("fresh", "first_answer_s"),
         "<=", 30, "s"),
    Goal("fresh clone: its environments", ("fresh", "environments_mb"), "<=", 900, "MB"),
    Goal("memory of the hf service after the first moves", ("fresh", "hf_mb"), "<=", 600, "MB"),
    Goal("arena exploitability, Kuhn poker", ("fresh", "kuhn_poker_s"), "<=", 2, "s"),
    Goal("arena exploitability, Leduc poker", ("fresh", "leduc_poker_s"), "<=", 150, "s"),
    Goal("make test-fast", ("unit_tests", "seconds"), "<=", 60, "s"),
)  # fmt: skip


def _time(system: System, command: str) -> float:
    """Seconds that a command takes in the system's folder. Raises RuntimeError if it fails."""
    begun = time.perf_counter()
    done = system.shell(command)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - begun


def _measure_size(*folders: Path) -> float:
    """MB on the disk; a file with several hard links counts once."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            status = path.lstat()
            found[status.st_ino] = 512 * status.st_blocks
    return sum(found.values()) / 1e6


def measure_fresh() -> dict[str, float]:
    """Time the commands in a fresh clone."""
    from tests.support.system import System

    with tempfile.TemporaryDirectory(prefix="arena-") as name:
        clone = Path(name, "clone")
        command = ["git", "clone", "-q", str(ROOT), str(clone)]
        subprocess.run(command, check=True)
        cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache/uv"))
        environ = {"HOME": name, "UV_CACHE_DIR": cache, "PYTHONPATH": ""}
        system = System(Path(name, "run"), environ, root=clone)
        # A fresh clone must not use what other clones have kept.
        system.env.pop("ARENA_CACHE_DIR", None)
        try:
            return _measure_clone(system)
        finally:
            system.close()


def _measure_clone(system: System) -> dict[str, float]:
    figures = {"setup_s": _time(system, "make setup"), "up_s": _time(system, "make up")}
    figures["first_answer_s"] = sum(figures.values())
    folders = (system.root / ".venv", system.root / ".venv-uv")
    figures["environments_mb"] = _measure_size(*folders)
    move = f".venv/bin/arena-llm generate {MODEL} 'Your move?' --choice 0 --choice 1"
    for _ in range(MOVES):
        _time(system, move)
    figures["hf_mb"] = harness.rss_mb(system.pid("hf"))
    command = f".venv/bin/arena exploitability --model {MODEL}"
    for game, rounds in ROUNDS.items():
        seconds = []
        for number in range(rounds):
            _time(system, "make restart SERVICE=hf")
            _time(system, move)
            results = system.run_dir / f"{game}-{number}.sqlite"
            seconds.append(_time(system, f"{command} --game {game} --results {results}"))
        figures[f"{game}_s"] = statistics.median(seconds)
    return figures


def measure_unit_tests() -> dict[str, float]:
    """Time `make test-fast`; raises RuntimeError if a test fails."""
    begun = time.perf_counter()
    command = ["make", "-o", ".venv/.all", "test-fast"]  # the environment is not updated
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-2000:]}")
    print(done.stdout.splitlines()[-1])
    return {"seconds": time.perf_counter() - begun}


#: First the one that ends early if a test fails.
PARTS: dict[str, Callable[[], dict[str, float]]] = {
    "unit_tests": measure_unit_tests,
    "fresh": measure_fresh,
}


def main() -> None:
    """Print the tables and write the JSON, or only print the parts that are named."""
    if names := sys.argv[1:]:
        print(json.dumps({name: PARTS[name]() for name in names}, indent=2))
        return
    results = {name: measure() for name, measure in PARTS.items()}
    for part, figures in results.items():
        harness.print_table(part, ["figure", "value"], list(figures.items()))
    harness.write_results("commands", GOALS, results)


if __name__ == "__main__":
    main()
