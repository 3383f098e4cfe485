"""lm-evaluation-harness runs tasks on a model of the router, by the class of examples/."""

import importlib.metadata
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from checks import run
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from examples.lm_eval_arena import ArenaLM

MODEL = "hf_smollm2-135m-instruct"
PREFIX = "<|im_start|>"

QUESTIONS = [
    {"question": "The capital of France is", "options": ["Paris", "banana", "seven"], "answer": 0},
    {"question": "Two plus two is", "options": ["green", "four", "Paris"], "answer": 1},
    {"question": "The sun rises in the", "options": ["east", "milk", "spoon"], "answer": 0},
]
COUNTS = [{"text": "one, two, three,", "next": " four"}, {"text": "A, B, C,", "next": " D"}]

TASKS = {
    "mc": (
        QUESTIONS,
        {
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{options}}",
            "doc_to_target": "{{answer}}",
            "metric_list": [{"metric": "acc"}],
        },
    ),
    "next": (
        COUNTS,
        {
            "output_type": "generate_until",
            "doc_to_text": "{{text}}",
            "doc_to_target": "{{next}}",
            "target_delimiter": "",
            "generation_kwargs": {"until": [",", "\n"], "max_gen_toks": 8},
            "metric_list": [{"metric": "exact_match"}],
        },
    ),
    "rolling": (
        [{"text": "The quick brown fox jumps over the lazy dog."}],
        {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "word_perplexity"}],
        },
    ),
}


def evaluate(router: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for task, (rows, keys) in TASKS.items():
            data = folder / f"{task}.jsonl"
            data.write_text("".join(json.dumps(row) + "\n" for row in rows))
            settings = {
                "task": f"small_{task}",
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(data)}},
                "test_split": "test",
                **keys,
            }
            (folder / f"{task}.yaml").write_text(json.dumps(settings))  # JSON is YAML
        results = simple_evaluate(
            model="arena",
            model_args={"model": MODEL, "target": router, "prefix": PREFIX},
            tasks=[f"small_{task}" for task in TASKS],
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            bootstrap_iters=0,
        )
    assert results is not None
    return dict(results)


def check_tasks(router: str) -> None:
    results = evaluate(router)
    print(results["results"])
    assert results["results"]["small_mc"]["acc,none"] == 1
    replies = [sample["resps"] for sample in results["samples"]["small_next"]]
    assert results["results"]["small_next"]["exact_match,none"] == 1, replies
    assert 1 < results["results"]["small_rolling"]["word_perplexity,none"] < 1000
    for sample in results["samples"]["small_mc"]:
        # The harness chose by log-probabilities. At most one choice can be the greedy text.
        answers = [tuple(answer) for (answer,) in sample["resps"]]
        assert all(logprob < 0 for logprob, _ in answers)
        assert sum(greedy in (True, "True") for _, greedy in answers) <= 1


def request(kind: str, *words: Any) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=words, idx=0)


def check_greedy_and_windows(router: str) -> None:
    model = ArenaLM(MODEL, router, PREFIX)
    (text,) = model.generate_until(
        [request("generate_until", "The capital of France is", {"until": ["."], "max_gen_toks": 3})]
    )
    pairs = [("The capital of France is", text), ("The capital of France is", " banana")]
    (_, greedy), (_, other) = model.loglikelihood([request("loglikelihood", *p) for p in pairs])
    assert greedy
    assert not other
    # The parts of a text that is longer than the model's context are scored one after the other.
    text = "one two three four five six seven eight nine ten"
    rolling = [request("loglikelihood_rolling", text)]
    (whole,) = model.loglikelihood_rolling(rolling)
    ((alone, _),) = model.loglikelihood([request("loglikelihood", "", text)])
    assert math.isclose(whole, alone, abs_tol=1e-3)
    (parts,) = ArenaLM(MODEL, router, PREFIX, max_length=4).loglikelihood_rolling(rolling)
    assert parts < whole


if __name__ == "__main__":
    run(globals(), f"lm-eval {importlib.metadata.version('lm-eval')}")
