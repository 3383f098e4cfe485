"""What hf and vllm refuse: requests that are wrong, and prompts for which a model computes NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from arena_llm import Client, Message
from arena_llm.errors import ArenaError
from arena_llm.types import Completion, ModelState
from tests.support.bad_input import (
    INVALID,
    NOT_FOUND,
    TOO_LONG,
    UNSUPPORTED,
    bad_input,
    check_refused,
    check_scoring_refused,
)
from tests.support.local_models import BAD, BREAK, FAR, PROMPT, LocalService

MISCONFIGURED = ("FAILED_PRECONDITION", "MODEL_MISCONFIGURED")


@pytest.mark.parametrize("method", ["generate", "stream"])
@bad_input(
    ("another prefix", {"model": "other_x"}, NOT_FOUND, "model"),
    ("a regex too large", {"regex": "(a{1000}){1000}"}, INVALID, "constraint.regex"),
    ("one token too many", {"prompt": "7" * 600, "max_tokens": 1}, TOO_LONG, "prompt"),
    ("an unknown token", {"prompt": f"Play {FAR} now"}, INVALID, "prompt"),
    ("a template that writes one", {"prompt": BREAK}, INVALID, "prompt"),
    (
        "a role that the template refuses",
        {"prompt": None, "messages": [Message("system", "Play.")]},
        INVALID,
        "conversation",
    ),
    (
        "a role that the template ignores",
        {"prompt": None, "messages": [Message("assistant", "Play."), Message("user", "1")]},
        INVALID,
        "conversation",
    ),
)  # fmt: skip
def test_bad_input_is_refused_with_its_field(
    service: LocalService,
    llm: Client,
    method: str,
    over: dict[str, Any],
    code_and_reason: tuple[str, str],
    field: str,
) -> None:
    arguments = {"model": service.tiny, "prompt": PROMPT, **over}
    check_refused(llm, method, arguments, code_and_reason, field)


@pytest.mark.parametrize(
    ("prompt", "continuations", "field"),
    [
        (PROMPT, [], "continuations"),
        (PROMPT, ["a", ""], "continuations[1]"),
        ("", ["a"], "prompt"),
        (PROMPT, ["7" * 600], "continuations"),
        ("7" * 600, ["a"], "prompt"),
        (PROMPT, ["a", FAR], "continuations[1]"),
    ],
)
def test_bad_scoring_is_refused_with_its_field(
    service: LocalService, llm: Client, prompt: str, continuations: list[str], field: str
) -> None:
    check_scoring_refused(llm, service.tiny, prompt, continuations, field)


#: Every kind of call, with a prompt.
CALLS: dict[str, Callable[[Client, str, str], object]] = {
    "generate": lambda llm, model, prompt: llm.generate(model, prompt, max_tokens=4, seed=1),
    "greedy": lambda llm, model, prompt: llm.generate(model, prompt, max_tokens=4, temperature=0),
    "stream": lambda llm, model, prompt: list(llm.stream(model, prompt, max_tokens=4, seed=1)),
    "choices": lambda llm, model, prompt: llm.generate(model, prompt, choices=["a", "b"]),
    "logprobs": lambda llm, model, prompt: llm.generate(
        model, prompt, max_tokens=4, seed=1, top_logprobs=2
    ),
    "score": lambda llm, model, prompt: llm.score(model, prompt, ["a", "bc"]),
}


@pytest.mark.parametrize("call", CALLS)
def test_no_reply_is_made_of_nan(service: LocalService, llm: Client, call: str) -> None:
    with pytest.raises(ArenaError, match=f"{service.tiny} computes NaN") as caught:
        CALLS[call](llm, service.tiny, f"a{BAD}b")
    assert (caught.value.code, caught.value.reason) == MISCONFIGURED
    assert CALLS[call](llm, service.tiny, "ab")
    assert llm.is_available(service.tiny).state == ModelState.READY


def test_nan_in_one_request_does_not_fail_the_batch(service: LocalService, llm: Client) -> None:
    prompts = [f"a{BAD}" if number % 4 == 3 else f"a{number}" for number in range(16)]
    many = llm.generate_many(service.tiny, prompts, regex="[0-6]{40}", max_tokens=40)
    for number, reply in many:
        prompt = prompts[number]
        assert isinstance(reply, Completion) == (BAD not in prompt), reply


def test_the_log_contains_no_prompt_and_no_constraint(service: LocalService, llm: Client) -> None:
    marker = "QUAGGA-7713"
    llm.generate(service.tiny, f"{marker} {PROMPT}", regex=f"({marker}|b)", max_tokens=40)
    for options in (
        {"prompt": marker, "regex": f"{marker}("},
        {"prompt": f"{marker}{FAR}"},
        {"prompt": f"{marker}{BAD}"},
    ):
        with pytest.raises(ArenaError):
            llm.generate(service.tiny, **options)  # type: ignore[arg-type]
    assert "rpc=Generate status=OK" in service.log()
    assert marker not in service.log()


def test_vllm_refuses_a_temperature_over_its_maximum(service: LocalService, llm: Client) -> None:
    if service.name == "vllm":
        arguments = {"model": service.tiny, "prompt": PROMPT, "temperature": 2.1}
        check_refused(llm, "generate", arguments, UNSUPPORTED, "config.temperature")
