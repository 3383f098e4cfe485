"""TRL trains one step on exported rollouts: `trl_step.py JSONL FOLDER_WITH_A_TOKENIZER`."""

from __future__ import annotations

import importlib.metadata
import math
import tempfile
from typing import Any

import torch
from checks import run
from datasets import Dataset, load_dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

COMMON: dict[str, Any] = {
    "max_steps": 1,
    "learning_rate": 0.1,
    "per_device_train_batch_size": 4,
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "save_strategy": "no",
}


def make_model(tokenizer: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def train(trainer: Any) -> dict[str, Any]:
    """Make one step, which must change the model. Return what the trainer logs."""
    before = trainer.model.lm_head.weight.detach().clone()
    trainer.train()
    assert not torch.equal(before, trainer.model.lm_head.weight)
    logged: dict[str, Any] = {}
    for entry in trainer.state.log_history:
        logged.update(entry)
    return logged


def check_a_supervised_step(rollouts: str, folder: str) -> None:
    """Train on the tokens that the model generated, and on no others."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = load_dataset("json", data_files=rollouts, split="train")
    masks = [[0] * len(row["prompt_ids"]) + row["env_mask"] for row in rows]
    data = Dataset.from_dict(
        {
            "input_ids": [row["prompt_ids"] + row["completion_ids"] for row in rows],
            "completion_mask": masks,
        }
    )
    with tempfile.TemporaryDirectory() as output:
        arguments = SFTConfig(output_dir=output, completion_only_loss=True, **COMMON)
        trainer = SFTTrainer(
            make_model(tokenizer), arguments, train_dataset=data, processing_class=tokenizer
        )
        labels = trainer.train_dataset["labels"]
        assert [[int(label != -100) for label in row] for row in labels] == masks
        assert math.isfinite(train(trainer)["train_loss"])


def check_a_step_of_reinforcement_learning(rollouts: str, folder: str) -> None:
    """GRPO takes the columns by their names, and its reward from the row."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = list(load_dataset("json", data_files=rollouts, split="train"))
    chosen = [rows[0], next(row for row in rows if row["reward"] != rows[0]["reward"])]
    names = ("prompt_ids", "completion_ids", "logprobs", "env_mask", "reward")

    def replay(prompts: list[str], trainer: Any) -> dict[str, Any]:
        played = [chosen[number % 2] for number in range(len(prompts))]
        return {name: [row[name] for row in played] for name in names}

    def reward(completions: list[Any], reward: list[float], **_: Any) -> list[float]:
        return reward

    with tempfile.TemporaryDirectory() as output:
        arguments = GRPOConfig(
            output_dir=output, num_generations=4, max_completion_length=16, **COMMON
        )
        trainer = GRPOTrainer(
            make_model(tokenizer), reward, arguments, processing_class=tokenizer,
            train_dataset=Dataset.from_dict({"prompt": ["Your move?"] * 4}), rollout_func=replay,
        )  # fmt: skip
        logged = train(trainer)
    assert logged["reward"] == sum(row["reward"] for row in chosen) / 2
    generated = sum(sum(row["env_mask"]) for row in chosen) / 2
    assert logged["completions/mean_length"] == generated, "tokens of others were trained on"


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(globals(), f"trl {importlib.metadata.version('trl')}")
