"""The class of examples/ answers as lm-evaluation-harness's own model of transformers does."""

import importlib.metadata
from typing import Any

import torch
from checks import run
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from examples.lm_eval_arena import ArenaLM

MODEL = "hf_smollm2-135m-instruct"
PREFIX = "<|im_start|>"
PAIRS = [
    ("The capital of France is", " Paris"),
    ("The capital of France is ", "Paris"),  # the harness moves the space
    ("The capital of France is", " Berlin, and not Paris"),
    ("", "Once upon a time there was a king."),
    ("x: 1\ny:", " 2\n"),
    ("Caf", "\u00e9 au lait"),
    ("one two three four five six seven", " eight"),
]
TEXTS = ["The quick brown fox jumps over the lazy dog.", "one two three four five six " * 3]


def ask(kind: str, *words: str) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=words, idx=0)


def compare(router: str, folder: str, chosen: list[tuple[str, str]], **options: Any) -> None:
    own = HFLM(folder, device="cpu", dtype="float32", **options)
    arena = ArenaLM(MODEL, router, PREFIX, **options)
    pairs = [ask("loglikelihood", *pair) for pair in chosen]
    texts = [ask("loglikelihood_rolling", text) for text in TEXTS]
    both = zip(
        (*own.loglikelihood(pairs), *((value, None) for value in own.loglikelihood_rolling(texts))),
        (*arena.loglikelihood(pairs), *((v, None) for v in arena.loglikelihood_rolling(texts))),
        strict=True,
    )
    worst = 0.0
    for (expected, greedy), (found, arena_greedy) in both:
        worst = max(worst, abs(expected - found))
        assert abs(expected - found) < 1e-3, (expected, found)
        assert greedy == arena_greedy
    print(f"the largest difference is {worst:.1e}")


def check_equal(router: str, folder: str) -> None:
    compare(router, folder, PAIRS)


def check_equal_in_windows(router: str, folder: str) -> None:
    """A context that is too long loses its beginning, and a long text is scored in parts."""
    compare(router, folder, PAIRS[-1:], max_length=5)


def check_the_same_text(router: str, folder: str) -> None:
    own = HFLM(folder, device="cpu", dtype="float32")
    arena = ArenaLM(MODEL, router, PREFIX)
    requests = [
        Instance(
            "generate_until", {}, ("one, two, three,", {"until": ["\n"], "max_gen_toks": 8}), 0
        )
    ]
    assert own.generate_until(requests) == arena.generate_until(requests)


torch.set_num_threads(1)  # so small a model is slower with more, above all on a busy machine
if __name__ == "__main__":
    run(globals(), f"lm-eval {importlib.metadata.version('lm-eval')}")
