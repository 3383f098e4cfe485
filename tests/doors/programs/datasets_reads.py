"""Rollouts and a leaderboard's entry are read: `datasets_reads.py JSONL YAML`."""

import datasets
import huggingface_hub
import yaml
from checks import run
from datasets import load_dataset


def check_rollouts(rollouts: str, _: str) -> None:
    rows = load_dataset("json", data_files=rollouts, split="train")
    lists = {"prompt_ids", "completion_ids", "logprobs", "env_mask"}
    assert lists | {"reward", "seat", "episode"} <= set(rows.column_names)
    assert len(rows) == 5
    for row in rows:
        assert len(row["completion_ids"]) == len(row["logprobs"]) == len(row["env_mask"])
    assert {row["reward"] for row in rows} == {1.0, -1.0}


def check_a_leaderboard_entry(_: str, entry: str) -> None:
    with open(entry, encoding="utf-8") as file:
        (parsed,) = huggingface_hub.parse_eval_result_entries(yaml.safe_load(file))
    assert (parsed.dataset_id, parsed.task_id) == ("lab/games", "tic_tac_toe")
    assert 0 <= parsed.value <= 1


run(globals(), f"datasets {datasets.__version__}, huggingface_hub {huggingface_hub.__version__}")
