"""Which models an experiment's file names, and what of it is named as wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from arena_llm.errors import FailedPreconditionError, InvalidArgumentError
from arena_llm.validation import models_of, read_experiment


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "experiment.yaml"


#: SPEC.md's multi-backend configuration.
AGENTS = """
agents:
  player_0:
    type: llm
    model: openrouter_anthropic/claude-3.5-sonnet  # OpenRouter
  player_1:
    type: llm
    model: litellm_groq/llama-3.1-8b-instant       # LiteLLM
  player_2:
    type: llm
    model: vllm_llama-2-7b-chat                    # Local vLLM
"""


def test_agents(file: Path) -> None:
    file.write_text(AGENTS)
    experiment = read_experiment(file)
    assert experiment.models == {
        "openrouter_anthropic/claude-3.5-sonnet": ("agents.player_0.model",),
        "litellm_groq/llama-3.1-8b-instant": ("agents.player_1.model",),
        "vllm_llama-2-7b-chat": ("agents.player_2.model",),
    }
    assert (experiment.path, experiment.problems) == (file, ())


def test_models(file: Path) -> None:
    file.write_text(
        """
        listen: 127.0.0.1:1
        models:
          - openrouter_openai/gpt-4o-mini
          - {name: vllm_new-model, model_path: /models/new, description: one}
          - openrouter_openai/gpt-4o-mini
        agents:
          a: {type: llm, model: vllm_new-model}
          b: {type: random}
          c: {type: human, model: 7}
        opponents: {rival: {type: llm, model: hf_rival}, dice: {type: random}}
        """
    )
    experiment = read_experiment(str(file))
    assert experiment.models == {
        "openrouter_openai/gpt-4o-mini": ("models[0]", "models[2]"),
        "vllm_new-model": ("models[1].name", "agents.a.model"),
        "hf_rival": ("opponents.rival.model",),
    }
    assert experiment.config["listen"] == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"models": [7]}, "models[0]: must be a model's full name, such as openrouter_openai/gpt"),
        ({"models": ["hf_a", ""]}, "models[1]: must be a model's full name"),
        ({"models": [None]}, "models[0]: must be a model's full name"),
        ({"models": [{"model": "hf_a"}]}, "models[0].name: must be a model's full name"),
        ({"models": [["hf_a"]]}, "models[0]: must be a model's full name"),
        ({"models": {"name": "hf_a"}}, "models: must be a list"),
        ({"models": "hf_a"}, "models: must be a list"),
        ({"agents": {"a": {"type": "llm"}}}, "agents.a.model: must be a model's full name"),
        ({"agents": {"a": {"type": "llm", "model": 7}}}, "agents.a.model: must be a model's"),
        ({"agents": {"a": {"model": "hf_a"}}}, "agents.a.type: must be set"),
        ({"agents": {"a": "llm"}}, "agents.a: must be a mapping"),
        ({"agents": ["hf_a"]}, "agents: must be a mapping"),
        ({"opponents": ["hf_a"]}, "opponents: must be a mapping"),
        ({"opponents": {"a": {"type": "llm"}}}, "opponents.a.model: must be a model's full name"),
    ],
)
def test_a_wrong_entry_names_itself(config, problem: str) -> None:
    _, problems = models_of(config)
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_a_wrong_entry_hides_no_other(file: Path) -> None:
    file.write_text("models: [hf_a, 7]\nagents: {x: {type: llm}, y: {type: llm, model: hf_b}}")
    experiment = read_experiment(file)
    assert list(experiment.models) == ["hf_a", "hf_b"]
    assert [line.partition(": must")[0] for line in experiment.problems] == [
        f"{file}: models[1]",
        f"{file}: agents.x.model",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"- hf_a", "must be a mapping"),
        (b"", "must be a mapping"),
        (b"hf_a", "must be a mapping"),
        (b"models: [", "is not valid YAML"),
        (b"models: \xff", "is not valid YAML"),
        (b"on: 2026-99-99", "is not valid YAML"),
        (b"models: " + b"[" * 5000, "is not valid YAML"),
        (b"on: !!bool perhaps", "line 1: is not valid YAML: 'perhaps' is not a bool"),
        (b"on: !!timestamp soon", "is not valid YAML"),
        (b"on: !!int ''", "is not valid YAML"),
        (b"on: !!float much", "is not valid YAML"),
        (b"? [a, b]\n: 1", "is not valid YAML"),
        (b"? {a: b}\n: 1", "is not valid YAML"),
        (b"a: &a\n  ? *a\n  : 1", "is not valid YAML"),
        (b"episodes: " + b"9" * 5000, "is not valid YAML"),
        (b"episodes: 0x" + b"f" * 5000, "an integer has more than 64 bits"),
        (b"models: !!python/object:os.system {}", "is not valid YAML"),
        (b"agents:\n  a: {type: random}\n  a: {type: llm, model: hf_a}", "key 'a' appears twice"),
        (b"models:\n", "names no model"),
        (b"models: []\nagents: {a: {type: random}}", "names no model"),
        (b"games: [hex]", "names no model"),
    ],
)
def test_a_file_that_cannot_be_used(file: Path, content: bytes, problem: str) -> None:
    file.write_bytes(content)
    with pytest.raises(InvalidArgumentError) as caught:
        read_experiment(file)
    assert caught.value.reason == "INVALID_CONFIG"
    assert str(file) in caught.value.message
    assert problem in caught.value.message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InvalidArgumentError, match=f"{path}: cannot be read: {why}"):
            read_experiment(path)


def test_merged_mappings_are_read(file: Path) -> None:
    file.write_text(
        "base: &base {type: llm, model: hf_a}\n"
        "agents: {x: {<<: *base}, y: {<<: *base, model: hf_b}}"
    )
    assert list(read_experiment(file).models) == ["hf_a", "hf_b"]


def test_without_pyyaml(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(AGENTS)
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "arena_llm.yaml_file", raising=False)
    with pytest.raises(FailedPreconditionError, match=r"pip install 'arena-llm\[validate\]'"):
        read_experiment(file)


def test_pyyaml_is_loaded_for_files_only() -> None:
    look = "import sys, arena_llm.validation, arena_llm.cli; print('yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
