"""The vllm service on vLLM's real engine: a tiny random model and the embedded one."""

from __future__ import annotations

import asyncio
import json
import math
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from arena_llm import AsyncClient, Client, Message
from arena_llm.errors import ArenaError, DeadlineExceededError, ResourceExhaustedError
from arena_llm.types import Capability, Completion, EngineLoad, FinishReason, ModelState
from tests.support.bad_input import (
    INVALID,
    NOT_FOUND,
    TOO_LONG,
    UNSUPPORTED,
    bad_input,
    check_refused,
    check_scoring_refused,
)
from tests.support.scripted import eventually
from tests.support.vllm import BREAK, EMBEDDED, TINY, VllmProcess
from tests.support.waiting import wait_until

PROMPT = "Tic-tac-toe. The board is empty. You are X. Answer with the number of a cell."
#: Generates until it is stopped.
ENDLESS: dict[str, Any] = {"regex": "(7 ){4000}", "max_tokens": 400}


@pytest.fixture(scope="module")
def llm(vllm: VllmProcess) -> Iterator[Client]:
    with Client(vllm.address) as client:
        yield client


def load(llm: Client, model: str = TINY) -> EngineLoad:
    now = llm.is_available(model).load
    assert now is not None
    return now


def metric(vllm: VllmProcess, name: str, model: str = TINY) -> float:
    """A metric's value, as Prometheus would scrape it."""
    with urllib.request.urlopen(f"http://{vllm.metrics}/metrics") as answer:
        text = answer.read().decode()
    found = re.search(rf'^{name}{{[^}}]*"{model}"[^}}]*}} (\S+)$', text, re.MULTILINE)
    assert found, name
    return float(found[1])


def test_a_move(llm: Client) -> None:
    cells = [str(cell) for cell in range(9)]
    reply = llm.generate(EMBEDDED, PROMPT, choices=cells, session="game-1")
    assert reply.text in cells
    assert (reply.model, reply.backend) == (EMBEDDED, "vllm")
    assert reply.finish_reason == FinishReason.STOP
    assert reply.usage.prompt_tokens > 20
    assert reply.usage.completion_tokens == 1  # no step for an end token
    assert reply.timings.total_seconds >= reply.timings.first_token_seconds > 0


def test_it_knows_something(llm: Client) -> None:
    talk = [Message("user", "What is the capital of France?")]
    assert "Paris" in llm.generate(EMBEDDED, messages=talk, max_tokens=32, temperature=0).text


def test_the_same_seed_gives_the_same_text(llm: Client) -> None:
    texts = [llm.generate(TINY, PROMPT, max_tokens=24, seed=seed).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_stream_is_the_completion_in_pieces(llm: Client) -> None:
    options: dict[str, Any] = {"max_tokens": 32, "seed": 5, "temperature": 0.7, "logprobs": 2}
    whole = llm.generate(EMBEDDED, PROMPT, **options)
    stream = llm.stream(EMBEDDED, PROMPT, **options)
    deltas = list(stream)
    assert len(deltas) > 1
    assert "".join(deltas) == stream.completion.text == whole.text
    assert stream.completion.usage.completion_tokens == whole.usage.completion_tokens
    assert [t.token for t in stream.completion.logprobs] == [t.token for t in whole.logprobs]


def test_log_probabilities_are_the_likeliest_first(llm: Client) -> None:
    reply = llm.generate(EMBEDDED, PROMPT, max_tokens=4, temperature=0, logprobs=3)
    assert len(reply.logprobs) == reply.usage.completion_tokens
    for told in reply.logprobs:
        assert [top.logprob for top in told.top] == sorted(
            (top.logprob for top in told.top), reverse=True
        )
        assert (told.token, told.logprob) == (told.top[0].token, told.top[0].logprob)
    assert "".join(told.token for told in reply.logprobs) == reply.text


def test_the_score_is_the_probability_of_the_choice(llm: Client) -> None:
    question = "What is the capital of France?"
    scores = llm.score(EMBEDDED, question, ["Paris", "Rome", "The capital is Rome", "xq zv"])
    assert scores[0].logprob > scores[3].logprob
    assert [score.tokens for score in scores][2] > 1
    for score in llm.score(EMBEDDED, PROMPT, ["4", "44"]):
        cell = llm.generate(EMBEDDED, PROMPT, choices=[score.text], logprobs=0)
        told = sum(t.logprob for t in cell.logprobs[: score.tokens])
        assert "".join(t.token for t in cell.logprobs[: score.tokens]) == score.text
        assert score.logprob == pytest.approx(told, abs=1e-3)


def test_a_score_reads_its_prompt_from_the_cache(vllm: VllmProcess, llm: Client) -> None:
    """Also where many actions begin alike; the prompt is read once."""
    prompt = "You may move to: " + ", ".join(f"cell {n}" for n in range(40))
    before = [metric(vllm, f"vllm:prefix_cache_{what}_total") for what in ("queries", "hits")]
    scores = llm.score(TINY, prompt, [f"cell {n}" for n in range(100)])
    after = [metric(vllm, f"vllm:prefix_cache_{what}_total") for what in ("queries", "hits")]
    queries, hits = (b - a for a, b in zip(before, after, strict=True))
    assert len(scores) == 100
    assert all(math.isfinite(score.logprob) and score.logprob < 0 for score in scores)
    assert hits > 0.7 * queries


def test_a_prompt_that_grows_is_cached(llm: Client) -> None:
    board = "The board so far: " + " ".join(f"move {n}" for n in range(40))
    first = llm.generate(TINY, board, choices=["0"])
    again = llm.generate(TINY, board + " move 41", choices=["0"])
    assert first.usage.cached_tokens == 0
    assert 0.7 * first.usage.prompt_tokens < again.usage.cached_tokens
    assert again.usage.cached_tokens < again.usage.prompt_tokens


ODD = ["1", " x", '"q"', "back\\slash", "two\nlines", "e\u0301", "日本", "😀", "a.*(b)", "a/b|c"]


@pytest.mark.parametrize("choice", ODD, ids=repr)
def test_odd_choices_come_back_as_they_are(llm: Client, choice: str) -> None:
    assert llm.generate(TINY, PROMPT, choices=[choice]).text == choice


@pytest.mark.parametrize(
    "choices",
    [["1", "10", "100"], ["Bet", "Pass"], ["e2e4", "e2e3", "e7e8q"], ["4", "44", "74"]],
    ids=repr,
)
def test_every_choice_can_come(llm: Client, choices: list[str]) -> None:
    """One a prefix of another, or its end: none is cut, none is lost."""
    texts = set()
    for begin in range(0, 256, 64):
        prompts = [f"{n}: your move?" for n in range(begin, begin + 64)]
        for reply in llm.generate_many(TINY, prompts, choices=choices, temperature=2.0):
            assert isinstance(reply, Completion), reply
            assert reply.finish_reason == FinishReason.STOP
            texts.add(reply.text)
        if len(texts) == len(choices):
            break
    assert texts == set(choices)


def test_thousands_of_choices(llm: Client) -> None:
    choices = [f"move {n}" for n in range(4096)]
    assert llm.generate(TINY, PROMPT, choices=choices).text in choices


SCHEMA = {
    "type": "object",
    "properties": {"cell": {"type": "integer", "minimum": 0, "maximum": 8}},
    "required": ["cell"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("model", [TINY, EMBEDDED])
def test_json_obeys_its_schema(llm: Client, model: str) -> None:
    for seed in range(4):
        reply = llm.generate(model, PROMPT, json_schema=SCHEMA, seed=seed, max_tokens=64)
        value = json.loads(reply.text)
        assert [*value] == ["cell"]
        assert value["cell"] in range(9)


def test_a_pattern_is_obeyed(llm: Client) -> None:
    for seed in range(4):
        reply = llm.generate(TINY, PROMPT, regex="[a-h][1-8]-[a-h][1-8]", seed=seed)
        assert re.fullmatch("[a-h][1-8]-[a-h][1-8]", reply.text)


@pytest.mark.parametrize("constraint", [{"json_schema": {"$ref": "#"}}, {"regex": r"[^\s\S]"}])
def test_what_no_text_fulfils_is_refused(llm: Client, constraint: dict[str, Any]) -> None:
    """llguidance would let the model end at once."""
    with pytest.raises(ArenaError, match="cannot be used: it is too complex, or") as caught:
        llm.generate(TINY, PROMPT, max_tokens=20, **constraint)
    assert caught.value.field == f"constraint.{next(iter(constraint))}"


def test_a_stop_string_ends_it_and_does_not_show(llm: Client) -> None:
    reply = llm.generate(TINY, PROMPT, regex="(7 ){9}END(7 ){9}", stop=["END"], max_tokens=90)
    assert (reply.text, reply.finish_reason) == ("7 " * 9, FinishReason.STOP)


def test_an_adapter_is_a_model_of_its_own(llm: Client) -> None:
    options: dict[str, Any] = {"max_tokens": 16, "temperature": 0}
    base, black = (llm.generate(name, PROMPT, **options) for name in (TINY, f"{TINY}-black"))
    assert base.text != black.text
    assert black.model == f"{TINY}-black"
    assert llm.generate(TINY, PROMPT, **options).text == base.text
    mine, its = (llm.score(name, PROMPT, ["4"])[0].logprob for name in (TINY, f"{TINY}-black"))
    assert mine != pytest.approx(its, abs=1e-3)


#: Model, and what its state says is wrong; a call says the same.
UNUSABLE = {
    f"{TINY}-narrow": r"does not fit its base: .*o_proj takes 128 numbers, the adapter's 96",
    f"{TINY}-wide": r"does not fit its base: .*o_proj takes 128 numbers, the adapter's 256",
    f"{TINY}-empty": r"does not fit its base: .*doesn't contain tensors",
    f"{TINY}-absent": r"holds no LoRA adapter",
    "vllm_absent": r"model_path .*/none holds no model",
    "vllm_untokenized": r"holds no tokenizer: set tokenizer_path",
    "vllm_garbled": r"its engine does not start: .*/garbled/tokenizer.json cannot be read",
    "vllm_gpu-only": r"no CUDA device: look at nvidia-smi",
    "vllm_mistyped": r"its engine does not start: .*float77",
    "vllm_memory": r"No available memory for the cache.*kv_cache_memory_bytes",
}


@pytest.mark.parametrize("model", UNUSABLE)
def test_what_cannot_run_says_why_and_the_others_serve(llm: Client, model: str) -> None:
    with pytest.raises(ArenaError, match=UNUSABLE[model]) as caught:
        llm.generate(model, PROMPT)
    assert (caught.value.code, caught.value.reason) == (
        "FAILED_PRECONDITION",
        "MODEL_MISCONFIGURED",
    )
    told = llm.is_available(model)
    assert (told.available, told.state) == (False, ModelState.MISCONFIGURED)
    assert re.search(UNUSABLE[model], told.detail)
    assert model in told.detail
    assert llm.generate(TINY, PROMPT, choices=["4"]).text == "4"


def test_a_token_that_the_model_lacks_does_not_reach_the_engine(llm: Client) -> None:
    """A chat template writes it, or a player does."""
    for prompt in (BREAK, "Play <|far|> now"):
        with pytest.raises(ArenaError, match="no embedding") as caught:
            llm.generate(TINY, prompt)
        assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", "prompt")
    assert llm.generate(TINY, PROMPT, choices=["4"]).text == "4"


def test_the_models_and_what_they_can_do(llm: Client) -> None:
    models = {model.name: model for model in llm.list_models()}
    assert [*models][:2] == [TINY, f"{TINY}-black"]
    assert models[TINY].context_length == 512
    assert models[EMBEDDED].context_length == 8192
    assert {Capability.CHAT, Capability.SCORE, Capability.SEED} <= {*models[EMBEDDED].capabilities}
    assert Capability.REASONING not in models[EMBEDDED].capabilities


@pytest.mark.parametrize("method", ["generate", "stream"])
@bad_input(
    ("unlisted model", {"model": "vllm_x"}, NOT_FOUND, "model"),
    ("another prefix", {"model": "hf_x"}, NOT_FOUND, "model"),
    ("temperature over vLLM's", {"temperature": 2.1}, UNSUPPORTED, "config.temperature"),
    ("a regex too large", {"regex": "(a{1000}){1000}"}, INVALID, "constraint.regex"),
    ("a special token", {"choices": ["<|im_end|>"]}, INVALID, "constraint.choices"),
    ("one token too many", {"prompt": "7" * 600, "max_tokens": 1}, TOO_LONG, "prompt"),
)  # fmt: skip
def test_bad_input_is_refused_by_name(
    llm: Client, method: str, over: dict[str, Any], code_and_reason: tuple[str, str], field: str
) -> None:
    arguments = {"model": TINY, "prompt": PROMPT, **over}
    check_refused(llm, method, arguments, code_and_reason, field)


@pytest.mark.parametrize(
    ("prompt", "continuations", "field"),
    [
        (PROMPT, [], "continuations"),
        (PROMPT, ["7" * 600], "continuations"),
        ("7" * 600, ["a"], "prompt"),
        (PROMPT, ["a", "<|far|>"], "continuations[1]"),
    ],
)
def test_bad_scoring_is_refused_by_name(
    llm: Client, prompt: str, continuations: list[str], field: str
) -> None:
    check_scoring_refused(llm, TINY, prompt, continuations, field)


def test_a_closed_stream_and_a_passed_deadline_free_the_engine(
    vllm: VllmProcess, llm: Client
) -> None:
    stream = llm.stream(TINY, PROMPT, **ENDLESS)
    assert next(stream)
    assert load(llm).running + load(llm).waiting == 1
    stream.close()
    wait_until(lambda: load(llm).running + load(llm).waiting == 0)
    with pytest.raises(DeadlineExceededError):
        llm.generate(EMBEDDED, PROMPT, timeout=0.5, regex="(7 ){4000}", max_tokens=4000)
    wait_until(lambda: load(llm, EMBEDDED).running + load(llm, EMBEDDED).waiting == 0)
    idle_again(vllm, llm, EMBEDDED)


def idle_again(vllm: VllmProcess, llm: Client, model: str) -> None:
    """The engine itself runs nothing any more: it says so at its next step."""
    llm.generate(model, PROMPT, max_tokens=2)
    assert metric(vllm, "vllm:num_requests_running", model) == 0
    assert metric(vllm, "vllm:num_requests_waiting", model) == 0


async def test_200_cancelled_at_once_leave_nothing(vllm: VllmProcess, llm: Client) -> None:
    async with AsyncClient(vllm.address) as many:
        calls = [
            asyncio.ensure_future(many.generate(TINY, f"{n}: {PROMPT}", **ENDLESS))
            for n in range(200)
        ]
        await eventually(lambda: load(llm).running + load(llm).waiting >= 200)
        await eventually(lambda: metric(vllm, "arena_vllm_running_requests") > 0)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await eventually(lambda: load(llm).running + load(llm).waiting == 0)
    idle_again(vllm, llm, TINY)


async def test_a_full_queue_refuses_at_once(vllm: VllmProcess, llm: Client) -> None:
    """16 run and 200 may wait: of 230, 14 are told to come again."""
    async with AsyncClient(vllm.address) as many:
        calls = [asyncio.ensure_future(many.generate(TINY, PROMPT, **ENDLESS)) for _ in range(230)]
        done, waiting = set(), set(calls)
        while len(done) < 14:
            more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        errors = [call.exception() for call in done]
        for call in waiting:
            call.cancel()
        await asyncio.wait(waiting)
    assert all(isinstance(error, ResourceExhaustedError) for error in errors)
    assert {error.retry_after for error in errors if isinstance(error, ResourceExhaustedError)} == {
        1.0
    }


def test_metrics_for_a_scaler(vllm: VllmProcess, llm: Client) -> None:
    """Ours and vLLM's own, of every engine."""
    llm.generate(EMBEDDED, PROMPT, max_tokens=8)
    for model in (TINY, EMBEDDED):
        assert metric(vllm, "arena_vllm_queue_depth", model) == 0
        assert 0 <= metric(vllm, "arena_vllm_kv_cache_usage", model) <= 1
        assert metric(vllm, "vllm:generation_tokens_total", model) > 0
        assert metric(vllm, "vllm:time_to_first_token_seconds_count", model) > 0
    assert metric(vllm, "arena_vllm_tokens_per_second", EMBEDDED) > 0
    assert load(llm, EMBEDDED).generated_tokens == metric(
        vllm, "vllm:generation_tokens_total", EMBEDDED
    )


def test_the_log_has_no_prompt_and_no_constraint(vllm: VllmProcess, llm: Client) -> None:
    marked = "ZEBRA-7713"
    llm.generate(TINY, f"{marked} {PROMPT}", regex=f"({marked}|b)", max_tokens=20)
    for constraint in ({"regex": f"{marked}("}, {"choices": [f"{marked}<|im_end|>"]}):
        with pytest.raises(ArenaError):
            llm.generate(TINY, marked, **constraint)  # type: ignore[arg-type]
    with pytest.raises(ArenaError):
        llm.generate(TINY, f"{marked}<|far|>")
    assert "rpc=Generate status=OK" in vllm.log()
    assert marked not in vllm.log()


def test_the_service_still_serves(vllm: VllmProcess, llm: Client) -> None:
    """Last in this file: nothing above has ended an engine."""
    for model in (TINY, EMBEDDED):
        assert llm.is_available(model).state == ModelState.READY
        assert load(llm, model).running == 0
    assert "bug" not in re.findall(r"event=(\w+)", vllm.log())
