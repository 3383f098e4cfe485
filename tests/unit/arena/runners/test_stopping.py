"""Runs that end when their results are enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from arena.experiment.load import ExperimentError, load_experiment
from arena.report.load import open_results
from arena.runners.coordinator import Job, RunProgress
from arena.runners.worker import run_sequential
from tests.support.scripted_experiment import Script

EXPERIMENT = """
games: [tic_tac_toe]
agents: {{good: {{type: minimax, depth: 2}}, dice: {{type: {rival}}}}}
swap_seats: true
episodes: {episodes}
episodes_in_flight: 4
{until}
"""


async def play(folder: Path, until: str, episodes: int = 60, rival: str = "random") -> RunProgress:
    path = folder / "experiment.yaml"
    path.write_text(EXPERIMENT.format(until=until, episodes=episodes, rival=rival))
    job = Job(load_experiment(path), Script(), folder / "results.sqlite")
    return await run_sequential(job, lambda progress: None)


async def test_a_run_ends_when_the_better_player_is_known(tmp_path: Path) -> None:
    progress = await play(tmp_path, "until: {decided: true}")
    assert "the better player of every pair is known" in progress.enough
    assert not progress.stopped
    played = progress.episodes.total()
    assert 10 <= played < progress.total == 120
    # The same command has nothing to play, and more episodes are not needed either.
    again = await play(tmp_path, "until: {decided: true}", episodes=100)
    assert again.enough
    assert again.episodes.total() == played
    # Without the rule the rest is played. The first deals are the same.
    with open_results(tmp_path / "results.sqlite") as results:
        early = {row.number for row in results.episodes}
    assert early >= set(range(5))
    whole = await play(tmp_path, "", episodes=len(early) + 2)
    assert whole.episodes.total() == 2 * (len(early) + 2)


async def test_a_run_ends_when_the_ratings_are_known(tmp_path: Path) -> None:
    progress = await play(tmp_path, "until: {width: 400}")
    assert "all ratings are known within 400 points" in progress.enough
    assert progress.episodes.total() < progress.total


async def test_a_run_that_never_knows_plays_all_its_episodes(tmp_path: Path) -> None:
    progress = await play(tmp_path, "until: {width: 1}", episodes=8)
    assert progress.enough == ""
    assert progress.episodes.total() == progress.total == 16


@pytest.mark.parametrize("until", ["{}", "{width: 0}", "{decided: false}", "{widht: 5}"])
def test_a_rule_without_a_meaning_is_refused(tmp_path: Path, until: str) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT.format(until=f"until: {until}", episodes=3, rival="random"))
    with pytest.raises(ExperimentError, match="until"):
        load_experiment(path)
