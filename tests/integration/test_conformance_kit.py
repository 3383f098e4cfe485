"""The conformance suite takes a backend from outside the tree, and finds what is wrong with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Ignores a parameter, swallows cancellation, and reports an unknown model as a bug.
BROKEN = """
import asyncio
from arena_llm.types import (
    Availability, Completion, FinishReason, Message, Model, ModelState, Usage
)
from services.common.backend import BaseLLMBackend
from services.common.config import ServiceConfig

class BrokenConfig(ServiceConfig):
    text: str = "north"

class Broken(BaseLLMBackend[BrokenConfig]):
    name = "broken"
    config_type = BrokenConfig
    fields = frozenset({"config.max_tokens", "config.stop", "constraint.choices"})

    async def generate_response(self, request):
        try:
            await asyncio.sleep(0.2)  # a caller on a busy machine cancels within it
        except asyncio.CancelledError:
            await asyncio.Event().wait()
        names = {"broken_a": self.config.text}
        message = Message("assistant", names[request.model])
        return Completion(message, FinishReason.STOP, Usage(1, 1))

    async def is_model_available(self, model):
        return Availability(True, ModelState.READY)

    async def get_available_models(self):
        return [Model("broken_a")]
"""


def conformance(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the suite in a folder; its exit status and its output."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ROOT]
    done = subprocess.run(
        [*command, "-c", ROOT / "pyproject.toml", ROOT / "tests/conformance", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'client/src'}"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_broken_backend_from_outside_fails_where_it_is_broken(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    for text in ("north", "west"):
        (tmp_path / f"{text}.yaml").write_text(f"listen: 127.0.0.1:0\ntext: {text}\n")
    status, output = conformance(
        *(tmp_path, "--backend", "mine:Broken", "--config", "north.yaml", "--config", "west.yaml"),
        *("--patience", "0.5", "-k", "honoured_or_refused or unknown_model or cancelled"),
    )
    assert status == 1
    failed = re.findall(r"^FAILED .*::(\S+)", output, re.MULTILINE)
    found = {
        name.replace("test_a_field_is_honoured_or_refused_by_name", "field") for name in failed
    }
    wrong = {
        "field[Broken-{}-whole-config.stop]",
        "field[Broken-{}-streamed-config.stop]",
        "test_an_unknown_model_is_not_found[Broken-{}-no-such-model]",
        "test_an_unknown_model_is_not_found[Broken-{}-]",
        "test_a_cancelled_call_ends_in_the_backend[Broken-{}]",
    }
    targets = [f"{name}{door}" for name in ("north", "west") for door in ("", "-router", "-edge")]
    expected = {name.format(target) for name in wrong for target in targets}
    # "west" is not one of the choices.
    expected |= {
        f"field[Broken-{target}-{how}-constraint.choices]"
        for target in targets[3:]
        for how in ("whole", "streamed")
    }
    assert found == expected


def test_a_backend_that_does_not_exist_is_named(tmp_path: Path) -> None:
    status, output = conformance(tmp_path, "--backend", "nothing:Here")
    assert status != 0
    assert "--backend nothing:Here: No module named 'nothing'" in output
