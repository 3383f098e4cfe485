"""The examples of client/README.md work."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path

import pytest

from arena_llm.cli import main
from arena_llm.v1 import models_pb2, score_pb2, service_info_pb2
from tests.unit.client.scripted import Script, end_event, models, scores, text_event, text_reply

README = (Path(__file__).parents[3] / "client" / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def served(script: Script, target: str, monkeypatch: pytest.MonkeyPatch) -> Script:
    """A server for every method, at the target of the environment."""

    def respond(request):
        match request:
            case score_pb2.ScoreRequest():
                return scores(*[-1.0] * len(request.continuations))
            case models_pb2.IsAvailableRequest():
                return models_pb2.IsAvailableResponse(available=True)
            case models_pb2.ListModelsRequest():
                return models("hf_a")
            case score_pb2.CountTokensRequest():
                return score_pb2.CountTokensResponse(tokens=3)
            case service_info_pb2.GetServiceInfoRequest():
                return service_info_pb2.GetServiceInfoResponse(service="router")
        return text_reply(request.prompt)

    script.respond = respond
    script.enqueue_stream(text_event("x4"), end_event("x4"))
    monkeypatch.setenv("ARENA_LLM_TARGET", target)
    return script


@pytest.mark.parametrize("source", blocks("python"))
def test_python(source: str, served: Script) -> None:
    exec(compile(source, "README.md", "exec"), {})  # noqa: S102 - our own text
    assert served.history


def test_commands(
    served: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (commands,) = (block for block in blocks("bash") if "arena-llm models" in block)
    for line in commands.splitlines():
        first, _, second = line.partition(" | ")
        if second:
            text = shlex.split(first.removeprefix("echo "))[0].encode()
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        program, *arguments = shlex.split(second or first)
        assert program == "arena-llm"
        assert main(arguments) == 0, line
    assert capsys.readouterr().err == ""
