"""scripts/utils: the validator as a command, and the measured games behind its estimates."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from arena.experiment.measure import measure_game
from arena.games.game import Game
from arena.games.text import measured_playouts
from arena_llm.types import Availability, ModelState
from services.common.local.checks import embedded_folder
from services.hf.embedded import prepare
from tests.support.scripted import scripted

pytestmark = pytest.mark.integration  # starts processes

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "scripts/utils/model_validator.py")


async def validator(*arguments: str, target: str = "") -> tuple[int, str, str]:
    """Run the script; exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        SCRIPT,
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "ARENA_LLM_TARGET": target},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_it_asks_the_services() -> None:
    async with scripted("hf") as (backend, server):
        code, out, err = await validator("--models", "hf_model", target=server.address)
        assert (code, err) == (0, "")
        assert "1 of 1 models can run" in out
        backend.availability = Availability(
            False, ModelState.MISCONFIGURED, "no such folder", reason="MODEL_MISCONFIGURED"
        )
        code, out, err = await validator("--models", "hf_model", target=server.address)
        assert (code, err) == (1, "")
        assert "MODEL_MISCONFIGURED: no such folder" in out


async def test_wrong_usage() -> None:
    code, out, err = await validator()
    assert (code, out) == (2, "")
    assert "one of the arguments --models --config is required" in err


#: A Python without its installed packages.
BARE = ("-E", "-s", "-S")


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("utils/model_validator.py", ["--models"], "--models: expected at least one argument"),
        ("run_multi_model_games.py", ["--config"], "--config: expected one argument"),
        ("run_ray_multi_model.py", ["--config"], "--config: expected one argument"),
    ],
)
def test_any_python_finds_the_environment(script: str, arguments: list[str], says: str) -> None:
    outside = Path(sys.base_prefix) / "bin/python3"
    command = [outside, *BARE, f"scripts/{script}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_python_without_the_client_and_no_environment(tmp_path: Path) -> None:
    alone = shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    done = subprocess.run(
        [sys.executable, *BARE, alone / "utils/model_validator.py", "--models", "hf_a"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "No module named 'arena'" in done.stderr
    assert "make setup" in done.stderr
    assert ".venv/bin/python" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["tic_tac_toe", "kuhn_poker", "matrix_rps", "goofspiel"])
def test_the_measured_games(name: str) -> None:
    prepare(embedded_folder())
    tokenizer = Tokenizer.from_file(str(embedded_folder() / "tokenizer.json"))
    size = measure_game(Game.load(name), lambda text: len(tokenizer.encode(text).ids))
    # The seed is the game's name. Small changes of a prompt need no new measurement.
    stored = measured_playouts()[name]
    assert (size.players, round(size.moves, 1)) == stored[:2]
    assert size.prompt_tokens == pytest.approx(stored.prompt_tokens, rel=0.05)
