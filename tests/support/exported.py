"""A results file with every kind of episode that an export for other programs meets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from arena.results.rows import EpisodeRow, ExperimentRow, ModelRow, MoveRow
from arena.results.store import Store

SETTINGS = '{"model":"hf_smollm2-135m-instruct","type":"llm"}'
MODELS = [
    ModelRow("smol", "llm", "hf_smollm2-135m-instruct", SETTINGS),
    ModelRow("gpt", "llm", "openrouter_openai/gpt-4o", "{}"),
    ModelRow("dice", "random", None, "{}"),
]
#: The token ids of smol's two turns in the first episode: a conversation, because the second prompt
#: begins with the first one and its answer. In every later episode they are unrelated.
CONVERSATION = (([1, 2, 3], [4, 5], [-0.5, -0.25]), ([1, 2, 3, 4, 5, 6, 7], [8], [-0.125]))
UNRELATED = (([1, 2, 3], [4, 5], [-0.5, -0.25]), ([9, 9], [8], [-0.125]))


def write_results(path: Path, episodes: int = 4) -> Path:
    """Write a file: in turn finished, forfeited by smol, failed, and won by smol.

    episodes: of tic_tac_toe. smol has token ids, gpt has not. One answer of smol is illegal.
    """
    with Store(path, ExperimentRow("lab games", "{}"), MODELS) as store:
        for number in range(episodes):
            row, moves = make_episode(number)
            store.put_episode(row, moves)
    return path


def make_episode(number: int) -> tuple[EpisodeRow, list[MoveRow]]:
    """Make an episode of smol against gpt, or against dice if the number is odd."""
    key = f"key{number}"
    agents = ("smol", "dice") if number % 2 else ("smol", "gpt")
    row = EpisodeRow(
        key, "tic_tac_toe", number, agents, 7 + number, "finished", 3, returns=(1.0, -1.0),
        versions=("1", "1"), ended=1_790_000_000 + number,
    )  # fmt: skip
    if number % 4 == 1:
        row = replace(row, status="forfeited", returns=None, loser=0, reason="seat 0: illegal")
    if number % 4 == 2:
        row = replace(row, status="failed", returns=None, reason="UNAVAILABLE down")
    turns = CONVERSATION if number == 0 else UNRELATED
    answer = MoveRow(
        key, 0, 0, 0, "ok", "smol", prompt="You are x. Your move?", reply='{"action": "x(1,1)"}',
        reasoning="The centre.", model="hf_smollm2-135m-instruct", prompt_tokens=3,
        completion_tokens=2, cost_picousd=0, finish_reason="stop", board="...\n...\n...",
        legal_actions=((4, "x(1,1)"),), reading="json",
    )  # fmt: skip
    smol = [
        replace(
            answer, ply=2 * turn, prompt_ids=json.dumps(prompt),
            tokens=json.dumps({"ids": ids, "logprobs": logprobs, "kind": "LOGPROB_KIND_MODEL"}),
        )
        for turn, (prompt, ids, logprobs) in enumerate(turns)
    ]  # fmt: skip
    smol[0] = replace(smol[0], action=4, action_text="x(1,1)")
    smol[1] = replace(smol[1], status="illegal", problem="not legal", reply="x(9,9)")
    other = MoveRow(key, 1, 1, 0, "ok", agents[1], action=0, action_text="o(0,0)")
    if agents[1] == "gpt":
        other = replace(
            other, prompt="You are o. Your move?", reply="o(0,0)", model="openai/gpt-4o",
            prompt_tokens=9, completion_tokens=4, cost_picousd=10**9,
        )  # fmt: skip
    return row, [smol[0], other, smol[1]]
