"""verifiers plays games between two seats of one model, over OpenAI's API."""

from __future__ import annotations

import asyncio
import importlib.metadata
from typing import Any

import verifiers.v1 as vf
from checks import run

from arena.environments.verifiers import make_env

MODEL = "hf_smollm2-135m-instruct"
#: So small a model seldom finds a legal move.
LEARNER = {"on_illegal": "random"}


async def play(url: str, game: str, seeds: int, **settings: Any) -> list[Any]:
    """The finished episodes, one for each seed."""
    env = make_env(game, episodes=seeds, learner=LEARNER, **settings)
    client = vf.EvalClientConfig(base_url=f"{url}/v1", api_key_var="NO_SUCH_KEY")
    sampling = vf.SamplingConfig(temperature=0, max_tokens=8)
    context = vf.ModelContext(model=MODEL, client=client, sampling=sampling)
    async with env.serving():
        slots = [env.slots(task)[0] for task in env.taskset]
        episodes = await asyncio.gather(*(env.run_slot(slot, context) for slot in slots))
    for episode in episodes:
        assert episode.ok, [*episode.errors, *(trace.errors for trace in episode.traces)]
    return list(episodes)


def describe(episode: Any) -> list[Any]:
    """What happened to each seat."""
    return [
        (
            trace.agent.name,
            [(node.message.role, node.message.content) for node in trace.nodes],
            {name: reward.score for name, reward in trace.rewards.items()},
        )
        for trace in sorted(episode.traces, key=lambda trace: trace.agent.name)
    ]


async def check_two_seats_and_seeds(gateway: str) -> None:
    episodes = await play(gateway, "leduc_poker", 3)
    stories = [describe(episode) for episode in episodes]
    for seats in stories:
        assert [name for name, _, _ in seats] == ["seat0", "seat1"]
        assert all(any(role == "assistant" for role, _ in nodes) for _, nodes, _ in seats)
        assert sum(rewards["reward"] for _, _, rewards in seats) == 0
    prompts = {seats[0][1][0][1] for seats in stories}
    assert len(prompts) > 1, "every seed has the same deal"
    again = await play(gateway, "leduc_poker", 3)
    assert [describe(episode) for episode in again] == stories


async def check_an_opponent(gateway: str) -> None:
    opponents = {1: {"type": "minimax", "depth": 9}}
    (episode,) = await play(gateway, "tic_tac_toe", 1, opponents=opponents, max_plies=4)
    (trace,) = episode.traces
    assert trace.agent.name == "seat0"
    assert trace.num_turns == 2
    assert trace.metrics["plies"] == 4


run(globals(), f"verifiers {importlib.metadata.version('verifiers')}")
