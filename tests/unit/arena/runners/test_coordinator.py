"""The order of episodes, and what happens to the episodes of a worker that died."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from arena.experiment.load import load_experiment
from arena.experiment.schedule import EpisodeSpec
from arena.runners.coordinator import Coordinator
from arena.runners.job import Job
from arena.runners.queue import FairQueue
from tests.support.scripted_experiment import Script


def spec(name: str, *agents: str) -> EpisodeSpec:
    return EpisodeSpec(name, "tic_tac_toe", 0, agents, 0)


def make_queue(*specs: EpisodeSpec) -> FairQueue:
    """A queue in which agents with upper-case names are models."""
    return FairQueue(specs, lambda spec: frozenset(filter(str.isupper, spec.agents)))


def take_all(queue: FairQueue) -> list[str]:
    return [spec.episode for spec in iter(queue.take, None)]


def test_equal_episodes_keep_their_order() -> None:
    queue = make_queue(*(spec(str(n), "random", "A") for n in range(4)), spec("4", "x", "y"))
    # An episode without a model is always among the least busy.
    assert take_all(queue) == ["0", "4", "1", "2", "3"]
    assert list(queue.taken) == ["0", "4", "1", "2", "3"]


def test_the_busiest_of_two_models_counts() -> None:
    pairs = [("A", "B"), ("A", "C"), ("A", "D"), ("C", "D"), ("E", "E")]
    queue = make_queue(*(spec("".join(pair), *pair) for pair in pairs))
    # CD goes before AC, because A is busy already.
    assert take_all(queue) == ["AB", "CD", "EE", "AC", "AD"]


@pytest.mark.parametrize("slow", "ABC")
def test_a_slow_model_gets_its_share_of_the_places(slow: str) -> None:
    """Eight places; three models with 40 episodes each, one of which never answers."""
    queue = make_queue(*(spec(f"{model}{n}", model) for model in "ABC" for n in range(40)))
    started = [queue.take() for _ in range(8)]
    while ended := next((one for one in queue.taken.values() if one.agents != (slow,)), None):
        queue.end(ended.episode)
        started.append(queue.take())
        count = Counter(one.agents[0] for one in started if one)
        others = sum(count[other] < 40 for other in "ABC" if other != slow)
        assert count[slow] <= {2: 3, 1: 4, 0: 8}[others]
    assert queue.taken.keys() == {f"{slow}{n}" for n in range(8)}


def test_an_episode_that_is_put_back_goes_before_others_of_its_models() -> None:
    queue = make_queue(*(spec(f"A{n}", "A") for n in range(3)), spec("B0", "B"))
    first = queue.take()
    queue.put_back(first.episode)
    assert queue.taken == {}
    assert take_all(queue) == ["A0", "B0", "A1", "A2"]


def test_an_episode_ends_once() -> None:
    queue = make_queue(spec("A0", "A"), spec("A1", "A"))
    taken = queue.take()
    assert queue.end("A0") is taken
    assert queue.end("A0") is None
    assert queue.end("A1") is None


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Coordinator]:
    """Of an experiment with 16 episodes, 8 of them in flight."""
    path = tmp_path / "experiment.yaml"
    path.write_text(
        "games: [tic_tac_toe]\nmodels: [hf_a, hf_b]\nepisodes: 8\nepisodes_in_flight: 8\n"
    )
    job = Job(load_experiment(path), Script(), tmp_path / "results.sqlite")
    coordinator = Coordinator(job)
    yield coordinator
    await coordinator.close()


async def take_share(coordinator: Coordinator, worker: int) -> list[str]:
    """All episodes that the worker gets now."""
    episodes = []
    while spec := await coordinator.take(worker):
        episodes.append(spec.episode)
    return episodes


async def test_the_episodes_of_a_worker_that_died_are_played_again(
    coordinator: Coordinator,
) -> None:
    await coordinator.join(0)
    await coordinator.join(1)
    lost, kept = await take_share(coordinator, 0), await take_share(coordinator, 1)
    await coordinator.leave(0, died=True)
    progress = await coordinator.progress()
    assert (progress.lost, progress.playing) == (1, len(kept))
    assert sorted(await take_share(coordinator, 1)) == sorted(lost), "no others are ahead of them"
    assert await coordinator.take(0) is None, "who counts as dead gets nothing"


async def test_workers_share_the_episodes_in_flight(coordinator: Coordinator) -> None:
    """Who joins gets a share as episodes of others end; who leaves, leaves its share to others."""
    await coordinator.join(0)
    first = await take_share(coordinator, 0)
    assert len(first) == 8
    await coordinator.join(1)
    assert len(await take_share(coordinator, 1)) == 4
    for episode in first[:5]:
        await coordinator.leave_open(episode, "hf_none", "")
    assert len(await take_share(coordinator, 0)) == 1
    await coordinator.leave(1)
    assert (await coordinator.progress()).lost == 0
    assert len(await take_share(coordinator, 0)) == 4
