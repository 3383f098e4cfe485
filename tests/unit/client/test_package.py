"""The public names of the package, what an import loads, and the functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import arena_llm
from arena_llm.v1 import models_pb2
from tests.unit.client.scripted import MODEL, Fail, Script, grpc, models


def test_the_public_names() -> None:
    assert arena_llm.__all__ == sorted(arena_llm.__all__)
    for name in arena_llm.__all__:
        assert getattr(arena_llm, name).__module__.startswith("arena_llm")
    assert set(arena_llm.__all__) <= set(dir(arena_llm))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = arena_llm.nonsense


def test_type_checkers_see_the_names_that_are_imported_at_first_use() -> None:
    source = ast.parse(Path(arena_llm.__file__ or "").read_text())
    block = next(node for node in source.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert seen == set(arena_llm._MODULES)
    assert seen == set(arena_llm.__all__)


HEAVY = {"torch", "vllm", "litellm", "transformers", "openai", "pydantic", "services", "router"}
HEAVY |= {"yaml"}  # an extra, for one option of one command
HEAVY |= {"grpc_health.v1"}  # for the health check alone


@pytest.mark.parametrize(
    "statement",
    [
        "import arena_llm; [getattr(arena_llm, name) for name in arena_llm.__all__]",
        "import arena_llm.cli",
        "import game_reasoning_arena.backends, game_reasoning_arena.backends.backend_config",
    ],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    look = f"import sys; {statement}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_types_load_no_grpc() -> None:
    # The services use them, and decide themselves how grpc is imported.
    look = "import sys, os, arena_llm.types, arena_llm.wire; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_quick_start(default_target: str, script: Script) -> None:
    from game_reasoning_arena.backends.llm_registry import generate_response

    response = generate_response(
        model_name="openrouter_openai/gpt-4o-mini",
        prompt="Explain the rules of tic-tac-toe",
        max_tokens=200,
        temperature=0.1,
    )
    assert response == "Explain the rules of tic-tac-toe"
    request = script.history[0].request
    assert request.model == "openrouter_openai/gpt-4o-mini"
    assert (request.config.max_tokens, request.config.temperature) == (200, 0.1)


def test_the_functions_of_the_module(default_target: str, script: Script) -> None:
    assert arena_llm.generate_response(MODEL, "hi", 5, 0.5, seed=1, timeout=50) == "hi"
    config = script.history[0].request.config
    assert (config.max_tokens, config.temperature, config.seed) == (5, 0.5, 1)
    script.enqueue(
        models_pb2.IsAvailableResponse(available=True),
        models_pb2.IsAvailableResponse(available=False),
        Fail(grpc.StatusCode.NOT_FOUND, "no", "UNKNOWN_PREFIX"),
        models("hf_a", "vllm_b"),
    )
    assert [arena_llm.is_model_available(name) for name in ("a", "b", "c")] == [True, False, False]
    assert arena_llm.get_available_models() == ["hf_a", "vllm_b"]
