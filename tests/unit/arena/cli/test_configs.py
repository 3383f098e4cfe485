"""The experiments in configs/experiments and in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from arena.experiment.load import load_experiment
from arena.experiment.schedule import schedule

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(
    ("name", "models", "episodes"),
    [("smoke", 1, 12), ("multi_backend", 3, 30), ("tournament", 6, 15 * 2 * 5 * 5)],
)
def test_a_shipped_experiment(name: str, models: int, episodes: int) -> None:
    experiment = load_experiment(ROOT / f"configs/experiments/{name}.yaml")
    assert len({row.model for row in experiment.models if row.model}) == models
    assert len(schedule(experiment)) == episodes


def test_the_multi_backend_example() -> None:
    text = (ROOT / "configs/experiments/multi_backend.yaml").read_text()
    assert (
        """
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
        in text
    )


def test_the_experiment_of_the_documentation(tmp_path: Path) -> None:
    section = (ROOT / "docs/experiments.md").read_text().partition("## The file")[2]
    block = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert block is not None
    path = tmp_path / "example.yaml"
    path.write_text(block[1])
    experiment = load_experiment(path)
    # Four models, one of them with two settings, and two opponents, in both seatings.
    assert len(schedule(experiment)) == 20 * 5 + 20 * 10 + 20 * 5
