"""Runs that end when their results are enough."""

from __future__ import annotations

import random
from collections import Counter, deque
from pathlib import Path
from typing import Any

import pytest
import yaml

from arena.experiment.file import Experiment
from arena.experiment.load import ExperimentError, load_experiment
from arena.experiment.schedule import schedule
from arena.report.load import open_results
from arena.results.columns import Ended, Kind
from arena.runners.job import Job, RunProgress
from arena.runners.pairing import AdaptivePairing
from arena.runners.stopping import StoppingRule
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
        early = {row.number for row in results.first(None)}
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


ADAPTIVE = """
games: [tic_tac_toe]
models: [openrouter_lab/a]
reply: choices
anchors: {{dice: {{type: random}}, solver: {{type: minimax, depth: 2}}, other: {{type: random}}}}
episodes: 40
episodes_in_flight: 4
until: {{width: {width}}}
pairing: {pairing}
"""


async def play_adaptively(folder: Path, width: int, pairing: str = "adaptive") -> RunProgress:
    path = folder / "experiment.yaml"
    path.write_text(ADAPTIVE.format(width=width, pairing=pairing))
    job = Job(load_experiment(path), Script(), folder / "results.sqlite")
    return await run_sequential(job, lambda progress: None)


async def test_adaptive_pairing_ends_and_goes_on_where_it_was(tmp_path: Path) -> None:
    first = await play_adaptively(tmp_path, 500)
    assert "known within 500 points" in first.enough
    again = await play_adaptively(tmp_path, 500)
    assert again.enough
    assert again.episodes == first.episodes
    # A narrower width plays on, with whole deals only, and no more than the rest.
    more = await play_adaptively(tmp_path, 250)
    assert more.enough
    assert first.episodes.total() < more.episodes.total() < more.total == 480
    with open_results(tmp_path / "results.sqlite") as results:
        games = Counter((frozenset(row.agents), row.seed) for row in results.first(None))
        pairs = Counter(pair for pair, _ in games)
    assert len(pairs) == 6
    assert min(pairs.values()) >= 2
    # Games in play when the run ended may lack their other seat order.
    assert sum(count == 1 for count in games.values()) <= 8
    # Without a rule that is met, everything is played in the end.
    rest = await play_adaptively(tmp_path, 1)
    assert (rest.enough, rest.episodes.total()) == ("", 480)


def simulate(experiment: Experiment, strengths: dict[str, float], seed: int) -> int:
    """Play until the rule is met with results drawn from strengths in Elo; returns the games."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    specs, rule = schedule(experiment), StoppingRule(experiment, ())
    adaptive = experiment.settings.pairing == "adaptive"
    pairing = AdaptivePairing(specs, specs, rule.games, ()) if adaptive else None
    queue, played = deque(() if pairing else specs), 0
    while not rule.look():
        if not queue and pairing:
            queue += pairing.next()
        spec = queue.popleft()
        first, second = (strengths[agent] for agent in spec.agents)
        value = 1.0 if rng.random() < 1 / (1 + 10 ** ((second - first) / 400)) else -1.0
        kind = Kind(spec.game, spec.agents, "finished", None, (value, -value))
        ended, played = Ended(kind, spec.seed, played), played + 1
        rule.add(ended)
        if pairing:
            pairing.add(ended)
    return played


def test_adaptive_pairing_needs_fewer_games_for_the_same_intervals(tmp_path: Path) -> None:
    names = [f"openrouter_lab/{name}" for name in "abcdefgh"]
    strengths = {name: 115.0 * place for place, name in enumerate(names)}  # 800 points
    games = {}
    for pairing in ("all", "adaptive"):
        path = tmp_path / f"{pairing}.yaml"
        path.write_text(
            f"{{games: [tic_tac_toe], models: [{', '.join(names)}], episodes: 100,"
            f" until: {{width: 300}}, pairing: {pairing}}}"
        )
        experiment = load_experiment(path)
        games[pairing] = sum(simulate(experiment, strengths, seed) for seed in range(4))
    assert games["adaptive"] < 0.9 * games["all"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"until": None}, "pairing: adaptive needs until:"),
        ({"anchors": None}, "pairing: adaptive needs three or more"),
        ({"games": ["kuhn_poker(players=3)"]}, "has 3 players; adaptive pairing needs 2"),
        ({"pairing": "swiss"}, "pairing: "),
    ],
)
def test_adaptive_pairing_needs_a_rule_and_a_round_robin(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "experiment.yaml"
    config = yaml.safe_load(ADAPTIVE.format(width=50, pairing="adaptive")) | change
    path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value}))
    with pytest.raises(ExperimentError, match=reason):
        load_experiment(path)


def test_a_model_in_several_conditions_is_several_players(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    config = (
        "{games: [tic_tac_toe], models: [openrouter_lab/a], until: {width: 50}, pairing: adaptive"
    )
    path.write_text(config + ", conditions: {actions: [listed, reversed, shuffled]}}")
    (game,) = load_experiment(path).games
    assert len({frozenset(lineup) for lineup in game.lineups}) == 3
    path.write_text(config + ", conditions: {actions: [listed, reversed]}}")
    with pytest.raises(ExperimentError, match="three or more players"):
        load_experiment(path)


@pytest.mark.parametrize("until", ["{}", "{width: 0}", "{decided: false}", "{widht: 5}"])
def test_a_rule_without_a_meaning_is_refused(tmp_path: Path, until: str) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT.format(until=f"until: {until}", episodes=3, rival="random"))
    with pytest.raises(ExperimentError, match="until"):
        load_experiment(path)
