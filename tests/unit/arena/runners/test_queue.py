"""The order of episodes: no model takes the places of the others."""

from __future__ import annotations

from collections import Counter

import pytest

from arena.experiment.schedule import EpisodeSpec
from arena.runners.queue import FairQueue


def spec(name: str, *agents: str) -> EpisodeSpec:
    return EpisodeSpec(name, "tic_tac_toe", 0, agents, 0)


def queue(*specs: EpisodeSpec) -> FairQueue:
    """Agents whose names are capitals are models."""
    return FairQueue(specs, lambda one: frozenset(filter(str.isupper, one.agents)))


def test_equals_keep_their_order() -> None:
    waiting = queue(*(spec(str(n), "random", "A") for n in range(4)), spec("4", "x", "y"))
    # Nobody waits for an episode without a model.
    assert [one.episode for one in iter(waiting.take, None)] == ["0", "4", "1", "2", "3"]
    assert list(waiting.taken) == ["0", "4", "1", "2", "3"]


def test_those_that_meet_count_both() -> None:
    pairs = [("A", "B"), ("A", "C"), ("A", "D"), ("C", "D"), ("E", "E")]
    waiting = queue(*(spec("".join(pair), *pair) for pair in pairs))
    # CD before AC: A is busy already.
    assert [one.episode for one in iter(waiting.take, None)] == ["AB", "CD", "EE", "AC", "AD"]


@pytest.mark.parametrize("slow", "ABC")
def test_a_slow_model_holds_its_share_of_the_places(slow: str) -> None:
    """Eight places, three models with 40 episodes each, one of which never answers."""
    waiting = queue(*(spec(f"{one}{n}", one) for one in "ABC" for n in range(40)))
    begun = [waiting.take() for _ in range(8)]
    while ended := next((one for one in waiting.taken.values() if one.agents != (slow,)), None):
        waiting.end(ended.episode)
        begun.append(waiting.take())
        count = Counter(one.agents[0] for one in begun if one)
        others = sum(count[other] < 40 for other in "ABC" if other != slow)
        assert count[slow] <= {2: 3, 1: 4, 0: 8}[others]
    assert waiting.taken.keys() == {f"{slow}{n}" for n in range(8)}


def test_what_is_put_back_comes_before_the_others_of_its_models() -> None:
    waiting = queue(*(spec(f"A{n}", "A") for n in range(3)), spec("B0", "B"))
    first = waiting.take()
    waiting.put_back(first.episode)
    assert waiting.taken == {}
    assert [one.episode for one in iter(waiting.take, None)] == ["A0", "B0", "A1", "A2"]


def test_an_episode_ends_once() -> None:
    waiting = queue(spec("A0", "A"), spec("A1", "A"))
    taken = waiting.take()
    assert waiting.end("A0") is taken
    assert waiting.end("A0") is None
    assert waiting.end("A1") is None
