"""What client/README.md shows is what works."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from arena_llm.v1 import models_pb2, score_pb2
from tests.unit.client.scripted import Script, end_event, models, scores, text_event, text_reply

pytestmark = pytest.mark.integration  # starts processes

README = (Path(__file__).parents[3] / "client" / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def served(script: Script, target: str, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Every method answers, at the target of the environment."""

    def respond(request):
        match request:
            case score_pb2.ScoreRequest():
                return scores(*((text, -1.0) for text in request.continuations))
            case models_pb2.IsAvailableRequest():
                return models_pb2.IsAvailableResponse(available=True)
            case models_pb2.ListModelsRequest():
                return models("hf_a")
        return text_reply(request.prompt)

    script.respond = respond
    script.enqueue_stream(text_event("x4"), end_event("x4"))
    monkeypatch.setenv("ARENA_LLM_TARGET", target)
    return script


@pytest.mark.parametrize("source", blocks("python"))
def test_python(source: str, served: Script) -> None:
    exec(compile(source, "README.md", "exec"), {})  # noqa: S102 - our own text
    assert served.history


def test_commands(served: Script) -> None:
    (commands,) = (block for block in blocks("bash") if "arena-llm models" in block)
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    methods = {seen.method for seen in served.history}
    assert methods == {"ListModels", "IsAvailable", "Generate", "StreamGenerate", "Score"}
