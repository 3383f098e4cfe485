"""A scripted router's answers, and the command that asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from arena_llm.cli import main
from arena_llm.v1 import models_pb2
from tests.unit.client.scripted import Script, models

GPT, GROQ = "openrouter_openai/gpt-4o", "litellm_groq/llama-3.1-8b-instant"
LOW = "Low balance: $0.50"

READY = models_pb2.MODEL_STATE_READY
BROKEN = models_pb2.MODEL_STATE_MISCONFIGURED
POOR: dict[str, Any] = {
    "available": True,
    "state": READY,
    "detail": "$0.50 left",
    "credits": models_pb2.Credits(balance_usd=0.5),
    "warnings": [LOW],
}
ANSWERS: dict[str, dict[str, Any]] = {
    GPT: {"available": True, "state": READY, "credits": models_pb2.Credits(balance_usd=9)},
    "openrouter_poor": POOR,
    "openrouter_poor2": POOR,
    "openrouter_poorer": {**POOR, "warnings": [LOW, "and slow"]},
    "openrouter_nokey": {"state": BROKEN, "reason": "API_KEY_MISSING", "detail": "set the key"},
    GROQ: {"state": BROKEN, "reason": "API_KEY_MISSING", "detail": "set GROQ_API_KEY"},
    "litellm_x": {"available": True, "state": READY},
    "hf_a": {"available": True, "state": READY, "detail": "ready"},
    "hf_b": {"available": True, "state": READY},
}


@pytest.fixture(autouse=True)
def answers(script: Script) -> None:
    """Prices of two models, and the availability of each."""
    listed = models(GPT, "hf_a")
    listed.models[0].price.prompt_usd = 2.5e-6
    listed.models[0].price.completion_usd = 10e-6
    script.respond = lambda request: (
        models_pb2.IsAvailableResponse(**ANSWERS[request.model])
        if isinstance(request, models_pb2.IsAvailableRequest)
        else listed
    )


@pytest.fixture
def run(target: str, capsys: pytest.CaptureFixture[str]):
    """Runs the command against the server: exit code, stdout, stderr."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(["validate", *arguments, "--target", target])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "experiment.yaml"
