"""Plays an experiment with the installed arena: `python -I arena.py TARGET REPOSITORY`.

It runs in the folder of the stack, which has written the experiment of the package's description.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import arena
import gateway
import router
import services


def main(target: str, repository: str) -> None:
    for package in (arena, gateway, router, services):
        place = files(package)
        assert place.joinpath("py.typed").is_file(), place
        assert not str(place).startswith(repository + "/"), place
    for name in ("router/assets/top.html", "arena/live/assets/live.html"):
        folder, _, path = name.partition("/")
        assert files(folder).joinpath(path).is_file(), name

    run(target, "run", "--config", "experiment.yaml", "--results", "results")
    shown = run(target, "report", "results/arena.sqlite")
    assert "gpt-4o-mini" in shown, shown
    page = Path("results/arena.html").read_text()
    assert "</html>" in page


def run(target: str, *arguments: str) -> str:
    """Run the installed command `arena`; returns what it prints."""
    command = [str(Path(sys.executable).with_name("arena")), *arguments]
    environ = {**os.environ, "ARENA_LLM_TARGET": target}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"arena {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
