"""A run says how many episodes do not count because a prompt has changed since."""

from __future__ import annotations

from pathlib import Path

import pytest

from arena.cli.query import warn_of_versions
from arena.experiment.load import load_experiment
from arena.runners.job import Job
from arena.runners.worker import run_sequential
from tests.support.scripted_experiment import Script

EXPERIMENT = """
games: [kuhn_poker, matrix_rps]
agents: {{model: {{type: llm, model: openrouter_x/a, {prompt}}}, dice: {{type: random}}}}
reply: choices
swap_seats: true
episodes: {episodes}
results: {results}
"""


async def play(folder: Path, prompt: str, episodes: int) -> None:
    path = folder / "experiment.yaml"
    results = folder / "results.sqlite"
    path.write_text(EXPERIMENT.format(prompt=prompt, episodes=episodes, results=results))
    experiment = load_experiment(path)
    warn_of_versions(experiment, results)
    await run_sequential(Job(experiment, Script(), results), lambda progress: None)


async def test_episodes_of_an_earlier_prompt_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reworded = "prompt: {persona: You are a careful player.}"
    await play(tmp_path, "on_illegal: random", 2)
    await play(tmp_path, "on_illegal: random", 3)
    assert capsys.readouterr().err == ""  # more episodes are no other version
    patches = pytest.MonkeyPatch()
    with patches.context() as patch:
        patch.setattr("arena.agents.llm.LlmAgent.version", lambda settings, game: "later")
        await play(tmp_path, "on_illegal: random", 1)
    assert "12 episodes of an earlier prompt or reader do not count" in capsys.readouterr().err
    # Other settings are another player, whose games are other games.
    await play(tmp_path, reworded, 1)
    assert capsys.readouterr().err == ""
