"""What every service with models on this machine must do, tested with hf and vllm alike."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from arena_llm import AsyncClient, Client, Message
from arena_llm.errors import (
    ArenaError,
    DeadlineExceededError,
    ResourceExhaustedError,
    UnsupportedError,
)
from arena_llm.types import (
    PARAMETERS,
    Capability,
    Completion,
    Conversation,
    Enforcement,
    FinishReason,
    Grammar,
    GrammarSyntax,
    ModelState,
    RawPrompt,
    StopMatch,
    Tool,
    ToolChoice,
    ToolMode,
)
from services.common.backend import BaseLLMBackend
from services.hf.backend import HfBackend
from services.vllm.backend import VllmBackend
from tests.support.bad_input import (
    INVALID,
    NOT_FOUND,
    TOO_LONG,
    UNSUPPORTED,
    bad_input,
    check_refused,
    check_scoring_refused,
)
from tests.support.local_models import BAD, BREAK, FAR, LocalService
from tests.support.waiting import eventually, reaching

BACKENDS: dict[str, type[BaseLLMBackend[Any]]] = {"hf": HfBackend, "vllm": VllmBackend}

PROMPT = "Tic-tac-toe. The board is empty. You are X. Answer with the number of a cell."
#: Options of a call that generates until it is stopped.
ENDLESS: dict[str, Any] = {"regex": "([78] ){4000}", "max_tokens": 400}
MISCONFIGURED = ("FAILED_PRECONDITION", "MODEL_MISCONFIGURED")

#: Returns one completion with these options.
Generate = Callable[..., Completion]


def texts(generate: Generate, **options: Any) -> set[str]:
    """The different texts of four seeds."""
    return {generate(max_tokens=16, seed=seed, **options).text for seed in range(4)}


def greedy(generate: Generate, **options: Any) -> str:
    """A greedy text in which the model has to repeat letters."""
    return generate(regex="[a-e]{60}", max_tokens=80, temperature=0.0, **options).text


#: The tiny model's end token, and another one.
END, OTHER = 1, 22
#: Makes the model write the end token wherever it may.
ENDING: dict[str, Any] = {"logit_bias": {END: 100.0}, "temperature": 0.0, "max_tokens": 9}


def generated(generate: Generate, **options: Any) -> tuple[int, ...]:
    """The ids of the generated tokens."""
    trace = generate(token_ids=True, **options).completion_tokens
    assert trace is not None
    return trace.ids


def is_refused(generate: Generate, **options: Any) -> bool:
    """Whether the model refuses the only option by its name."""
    [parameter] = options
    with pytest.raises(UnsupportedError) as caught:
        generate(**options)
    return caught.value.field == PARAMETERS[parameter].path


def shows_sampled_logprobs(generate: Generate) -> bool:
    """A greedy token is certain. An engine of vllm returns only the kind that it is set to."""
    try:
        reply = generate(max_tokens=3, temperature=0.0, top_logprobs=0, logprob_kind="sampled")
    except UnsupportedError as error:
        return error.field == "returns.logprob_kind"
    return reply.completion_tokens is not None and {*reply.completion_tokens.logprobs} == {0.0}


#: Parameter -> a call that shows whether it reaches the engine. A parameter that PARAMETERS gains
#: needs a line here.
PROBES: dict[str, Callable[[Generate], bool]] = {
    "temperature": lambda generate: (
        len(texts(generate, temperature=0.0)) == 1 < len(texts(generate, temperature=2.0))
    ),
    "top_p": lambda generate: len(texts(generate, top_p=1e-6)) == 1,
    "top_k": lambda generate: len(texts(generate, top_k=1)) == 1,
    "max_tokens": lambda generate: (
        generate(regex="[78]{90}", max_tokens=3).usage.completion_tokens == 3
    ),
    "seed": lambda generate: (
        len({generate(max_tokens=24, seed=7).text for _ in range(3)}) == 1 < len(texts(generate))
    ),
    "stop": lambda generate: (
        generate(regex="(7 ){9}END(7 ){9}", stop=["END"], max_tokens=90).text == "7 " * 9
    ),
    "presence_penalty": lambda generate: (
        greedy(generate, presence_penalty=2.0) != greedy(generate, presence_penalty=-2.0)
    ),
    "frequency_penalty": lambda generate: (
        greedy(generate, frequency_penalty=2.0) != greedy(generate, frequency_penalty=-2.0)
    ),
    "min_p": lambda generate: len(texts(generate, min_p=1.0)) == 1,
    "repetition_penalty": lambda generate: (
        greedy(generate, repetition_penalty=5.0) != greedy(generate, repetition_penalty=0.2)
    ),
    "min_tokens": lambda generate: len(generated(generate, min_tokens=5, **ENDING)) == 6,
    "ignore_eos": lambda generate: generated(generate, ignore_eos=True, **ENDING) == (END,) * 9,
    "logit_bias": lambda generate: (
        generated(generate, logit_bias={OTHER: 100.0}, max_tokens=3, temperature=0) == (OTHER,) * 3
    ),
    "stop_token_ids": lambda generate: (
        generate(logit_bias={OTHER: 100.0}, stop_token_ids=[OTHER]).stop_match
        == StopMatch(token_id=OTHER)
    ),
    "token_ids": lambda generate: len(generated(generate, max_tokens=4, ignore_eos=True)) == 4,
    "raw_text": lambda generate: (
        generate(raw_text=True, **ENDING).completion_tokens.raw_text == "<|im_end|>"  # type: ignore[union-attr]
    ),
    "logprob_kind": shows_sampled_logprobs,
    "logprob_token_ids": lambda generate: (
        generate(max_tokens=1, logprob_token_ids=[OTHER, 5]).completion_tokens.top_ids == (OTHER, 5)  # type: ignore[union-attr]
    ),
    "reasoning_effort": lambda generate: (
        "Be brief."
        in generate(reasoning_effort="low", raw_text=True, max_tokens=1).prompt_tokens.raw_text  # type: ignore[union-attr]
    ),
    # The tiny model does not reason, so it refuses them.
    "reasoning_visibility": lambda generate: is_refused(generate, reasoning_visibility="hidden"),
    "reasoning_budget_tokens": lambda generate: is_refused(generate, reasoning_budget_tokens=5),
    "top_logprobs": lambda generate: (
        {len(t.top) for t in generate(max_tokens=4, seed=1, top_logprobs=3).completion_tokens or ()}
        == {3}
    ),
}


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_every_honoured_parameter_reaches_the_engine(
    service: LocalService, llm: Client, parameter: str
) -> None:
    if PARAMETERS[parameter].path not in BACKENDS[service.name].fields:
        pytest.skip("the servicer refuses it: see tests/unit/common/test_servicer.py")
    assert parameter in PROBES, "add a probe for the new parameter"
    assert PROBES[parameter](lambda **options: llm.generate(service.tiny, PROMPT, **options))


def test_a_move(service: LocalService, llm: Client) -> None:
    cells = [str(cell) for cell in range(9)]
    reply = llm.generate(service.tiny, PROMPT, choices=cells, session="game-1")
    assert reply.text in cells
    assert (reply.model, reply.backend) == (service.tiny, service.name)
    assert reply.finish_reason == FinishReason.STOP
    assert reply.enforcement is Enforcement.DECODING
    engine = service.engine or {"hf": "openvino", "vllm": "vllm"}[service.name]
    assert reply.served_by.engine.startswith(f"{engine} ")
    assert (reply.served_by.precision, reply.usage.cost_picousd) == ("fp32", 0)
    assert reply.usage.prompt_tokens is not None
    assert reply.usage.prompt_tokens > 20
    assert reply.usage.completion_tokens == 1  # no step for an end token
    times = reply.timings
    assert times.total_seconds is not None
    assert times.first_token_seconds is not None
    assert times.total_seconds >= times.first_token_seconds > 0


def test_a_stream_has_the_text_of_the_completion(service: LocalService, llm: Client) -> None:
    options: dict[str, Any] = {"max_tokens": 32, "seed": 5, "temperature": 0.7, "top_logprobs": 2}
    whole = llm.generate(service.tiny, PROMPT, **options)
    stream = llm.stream(service.tiny, PROMPT, **options)
    deltas = list(stream)
    assert len(deltas) > 1
    assert "".join(deltas) == stream.completion.text == whole.text
    assert stream.completion.usage.completion_tokens == whole.usage.completion_tokens
    streamed, returned = stream.completion.completion_tokens, whole.completion_tokens
    assert streamed is not None
    assert returned is not None
    assert streamed.ids == returned.ids
    assert streamed.logprobs == pytest.approx(returned.logprobs, abs=1e-3)


def test_log_probabilities_are_sorted_and_belong_to_the_text(
    service: LocalService, llm: Client
) -> None:
    options: dict[str, Any] = {"max_tokens": 6, "temperature": 0.0, "top_logprobs": 3}
    reply = llm.generate(service.tiny, PROMPT, regex="[a-z]{20}", **options)
    assert "".join(token.text for token in reply.completion_tokens or ()) == reply.text
    reply = llm.generate(service.tiny, PROMPT, **options)
    trace = reply.completion_tokens or ()
    assert len(trace) == reply.usage.completion_tokens
    for token in trace:
        logprobs = [alternative.logprob for alternative in token.top]
        assert logprobs == sorted(logprobs, reverse=True)  # type: ignore[type-var]
        assert (token.id, token.logprob) == (token.top[0].id, token.top[0].logprob)


def test_a_score_is_the_log_probability_of_the_text(service: LocalService, llm: Client) -> None:
    """A score does not include the end token, which a choice may have."""
    texts = ["4", "44", "4x4"]
    scores = llm.score(service.tiny, PROMPT, texts)
    assert len(scores[2].tokens) > 1
    for text, score in zip(texts, scores, strict=True):
        assert b"".join(score.tokens.bytes).decode() == text
        choice = llm.generate(service.tiny, PROMPT, choices=[text], top_logprobs=0)
        trace = choice.completion_tokens
        assert trace is not None
        count = len(score.tokens)
        assert trace.ids[:count] == score.tokens.ids
        assert score.tokens.logprobs == pytest.approx(trace.logprobs[:count], abs=1e-3)
        assert score.logprob == pytest.approx(sum(score.tokens.logprobs), abs=1e-6)


def test_a_greedy_text_is_scored_as_greedy(service: LocalService, llm: Client) -> None:
    ids = generated(lambda **options: llm.generate(service.tiny, PROMPT, **options),
                    temperature=0.0, max_tokens=5, ignore_eos=True)  # fmt: skip
    other = (*ids[:4], (ids[4] + 1) % 300)
    scores = llm.score(service.tiny, PROMPT, [ids, other], top_logprobs=2)
    assert [score.is_greedy for score in scores] == [True, False]
    assert [token.top[0].id for token in scores[0].tokens] == [*ids]
    assert {len(token.top) for token in scores[1].tokens} == {2}


def test_the_log_probabilities_of_a_prompt(service: LocalService, llm: Client) -> None:
    """Those of its tokens as a continuation of its first token."""
    ids = (20, 21, 22, 40, 41)
    asked = llm.score(service.tiny, RawPrompt(token_ids=ids), [], prompt_logprobs=True)
    [rest] = llm.score(service.tiny, RawPrompt(token_ids=ids[:1]), [ids[1:]])
    trace = asked.prompt_tokens
    assert trace is not None
    assert (trace.ids, trace.unscored, len(asked)) == (ids, 1, 0)
    assert trace.logprobs == pytest.approx(rest.tokens.logprobs, abs=1e-3)


def test_likeliest_and_chosen_tokens_at_the_same_time(service: LocalService, llm: Client) -> None:
    """In a batch, vLLM's engine returns one kind for all requests."""
    options = [
        {"top_logprobs": 3, "max_tokens": 24, "seed": n} if n % 2
        else {"logprob_token_ids": [5, 6, 7], "max_tokens": 24, "seed": n}
        for n in range(8)
    ]  # fmt: skip

    async def ask_all() -> list[Completion]:
        async with AsyncClient(service.address) as client:
            calls = (client.generate(service.tiny, PROMPT, **o) for o in options)  # type: ignore[arg-type]
            return await asyncio.gather(*calls)

    for n, reply in enumerate(asyncio.run(ask_all())):
        trace = reply.completion_tokens
        assert trace is not None
        assert min(trace.top_logprobs) > -1000, n
        if n % 2:
            best = [token.top[0].logprob for token in trace]
            assert all(t.logprob <= b for t, b in zip(trace, best, strict=True))  # type: ignore[operator]
        else:
            assert trace.top_ids == (5, 6, 7) * len(trace)


def test_a_prompt_is_counted_as_it_is_read(service: LocalService, llm: Client) -> None:
    count = llm.count_tokens(service.tiny, PROMPT, return_tokens=True)
    reply = llm.generate(service.tiny, PROMPT, max_tokens=1, token_ids=True, raw_text=True)
    assert count.tokens == reply.usage.prompt_tokens
    assert count.trace == reply.prompt_tokens
    assert count.trace is not None
    assert count.trace.raw_text.startswith("<|im_start|>user\nTic-tac-toe.")


def test_a_raw_prompt_is_read_without_the_template(service: LocalService, llm: Client) -> None:
    reply = llm.generate(service.tiny, RawPrompt("0 or 8?"), max_tokens=1, raw_text=True)
    assert reply.prompt_tokens is not None
    assert reply.prompt_tokens.raw_text == "0 or 8?"


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"grammar": Grammar(GrammarSyntax.LARK, 'start: "go " /[a-h]/ /[1-8]/')}, "go [a-h][1-8]"),
        ({"grammar": Grammar(GrammarSyntax.GBNF, 'root ::= "go " [a-h] [1-8]')}, "go [a-h][1-8]"),
    ],
    ids=["lark", "gbnf"],
)
def test_a_text_follows_its_grammar(
    service: LocalService, llm: Client, options: dict[str, Any], pattern: str
) -> None:
    for seed in range(4):
        reply = llm.generate(service.tiny, PROMPT, seed=seed, **options)
        assert re.fullmatch(pattern, reply.text)
        assert reply.enforcement is Enforcement.DECODING


def test_any_json_object(service: LocalService, llm: Client) -> None:
    for seed in range(4):
        reply = llm.generate(service.tiny, PROMPT, json_object=True, seed=seed, max_tokens=100)
        if reply.finish_reason is FinishReason.STOP:
            assert isinstance(json.loads(reply.text), dict)
        assert reply.text.startswith("{")


LOOK = Tool("look", "Looks.", '{"type": "object", "properties": {"x": {"type": "integer"}}}')


def test_tools_are_shown_to_the_model(service: LocalService, llm: Client) -> None:
    counted = llm.count_tokens(service.tiny, PROMPT, tools=[LOOK], return_tokens=True)
    assert counted.trace is not None
    assert '"name": "look"' in counted.trace.raw_text
    reply = llm.generate(service.tiny, PROMPT, tools=[LOOK], max_tokens=1)
    assert reply.usage.prompt_tokens == counted.tokens
    unseen = ToolChoice(ToolMode.NONE)
    reply = llm.generate(service.tiny, PROMPT, tools=[LOOK], tool_choice=unseen, max_tokens=1)
    assert reply.usage.prompt_tokens == llm.count_tokens(service.tiny, PROMPT).tokens


def test_a_level_of_reasoning_sets_arguments_of_the_template(
    service: LocalService, llm: Client
) -> None:
    low, same = (
        llm.generate(service.tiny, PROMPT, max_tokens=1, raw_text=True, **options).prompt_tokens
        for options in ({"reasoning_effort": "low"}, {"template_arguments": {"brief": True}})
    )
    assert low is not None
    assert low == same
    assert "Be brief." in low.raw_text
    with pytest.raises(UnsupportedError, match="low") as caught:
        llm.generate(service.tiny, PROMPT, reasoning_effort="high")
    assert caught.value.field == "reasoning.effort"


def test_the_last_message_is_continued(service: LocalService, llm: Client) -> None:
    talk = Conversation(
        (Message("user", PROMPT), Message("assistant", "I take ")), continue_last_message=True
    )
    reply = llm.generate(service.tiny, messages=talk, max_tokens=1, raw_text=True)
    assert reply.prompt_tokens is not None
    assert reply.prompt_tokens.raw_text.endswith("<|im_start|>assistant\nI take ")


def test_a_growing_prompt_is_cached(service: LocalService, llm: Client) -> None:
    board = "The board so far: " + " ".join(f"move {n}" for n in range(40))
    choices = ["0", "1"]  # a single choice would need no pass over the prompt
    first = llm.generate(service.tiny, board, choices=choices)
    second = llm.generate(service.tiny, board + " move 41", choices=choices)
    read, cached = first.usage.prompt_tokens, second.usage.cached_tokens
    assert read is not None
    assert cached is not None
    assert second.usage.prompt_tokens is not None
    assert 0.7 * read < cached < second.usage.prompt_tokens


@pytest.mark.parametrize(
    "choice",
    ["1", " x", '"q"', "back\\slash", "two\nlines", "e\u0301", "日本", "😀", "a.*(b)", "a/b|c"],
    ids=repr,
)
def test_an_unusual_choice_is_returned_unchanged(
    service: LocalService, llm: Client, choice: str
) -> None:
    assert llm.generate(service.tiny, PROMPT, choices=[choice]).text == choice


@pytest.mark.parametrize(
    "choices",
    [["1", "10", "100"], ["Bet", "Pass"], ["e2e4", "e2e3", "e7e8q"], ["4", "44", "74"]],
    ids=repr,
)
def test_every_choice_can_be_returned(
    service: LocalService, llm: Client, choices: list[str]
) -> None:
    """Also choices that begin or end another one."""
    texts = set()
    for begin in range(0, 256, 64):
        prompts = [f"{n}: your move?" for n in range(begin, begin + 64)]
        many = llm.generate_many(service.tiny, prompts, choices=choices, temperature=2.0)
        for _, reply in many:
            assert isinstance(reply, Completion), reply
            assert reply.finish_reason == FinishReason.STOP
            texts.add(reply.text)
        if len(texts) == len(choices):
            break
    assert texts == set(choices)


def test_thousands_of_choices(service: LocalService, llm: Client) -> None:
    choices = [f"move {n}" for n in range(4096)]
    assert llm.generate(service.tiny, PROMPT, choices=choices).text in choices


SCHEMA = {
    "type": "object",
    "properties": {"cell": {"type": "integer", "minimum": 0, "maximum": 8}},
    "required": ["cell"],
    "additionalProperties": False,
}


def test_json_obeys_its_schema(service: LocalService, llm: Client) -> None:
    for seed in range(4):
        reply = llm.generate(service.tiny, PROMPT, json_schema=SCHEMA, seed=seed, max_tokens=64)
        value = json.loads(reply.text)
        assert [*value] == ["cell"]
        assert value["cell"] in range(9)


def test_a_text_matches_its_regex(service: LocalService, llm: Client) -> None:
    for seed in range(4):
        reply = llm.generate(service.tiny, PROMPT, regex="[a-h][1-8]-[a-h][1-8]", seed=seed)
        assert re.fullmatch("[a-h][1-8]-[a-h][1-8]", reply.text)


@pytest.mark.parametrize("constraint", [{"json_schema": {"$ref": "#"}}, {"regex": r"[^\s\S]"}])
def test_a_constraint_that_no_text_satisfies_is_refused(
    service: LocalService, llm: Client, constraint: dict[str, Any]
) -> None:
    """llguidance itself would let the model end immediately."""
    with pytest.raises(ArenaError, match="cannot be used") as caught:
        llm.generate(service.tiny, PROMPT, max_tokens=20, **constraint)
    assert caught.value.field == f"constraint.{next(iter(constraint))}"


def test_the_models_and_their_capabilities(service: LocalService, llm: Client) -> None:
    models = {model.name: model for model in llm.list_models()}
    model = models[service.tiny]
    assert (model.context_length, model.backend) == (512, service.name)
    assert {Capability.CHAT, Capability.SCORE, Capability.SEED} <= {*model.capabilities}
    assert {Capability.RAW, Capability.TOKEN_IDS, Capability.COUNT_TOKENS} <= {*model.capabilities}
    assert Capability.REASONING not in model.capabilities
    assert (model.precision, model.supported_fields_known) == ("fp32", True)
    assert {"conversation", "config.min_p", "raw.text"} <= {*model.supported_fields}
    assert model.defaults is not None
    assert (model.defaults.temperature, model.defaults.max_tokens) == (1.0, 256)
    assert llm.is_available(service.tiny).model == model


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


#: Calls whose caller leaves. All of their tokens would take many seconds, so that even a machine
#: that notices it late generates fewer than half of them.
ABANDONED = 200


async def check_freed(service: LocalService, llm: Client, before: int) -> None:
    """Check that the engine is free before all tokens of the abandoned calls are generated.

    before: the tokens that were generated before these calls.
    """
    # vLLM reports its load after a step.
    await asyncio.to_thread(llm.generate, service.tiny, PROMPT, max_tokens=1)
    await eventually(lambda: service.is_idle(llm))
    # A loaded machine notices the end of 200 calls late: half of the tokens were seen on CI.
    generated = service.load(llm).generated_tokens - before
    assert generated < 0.9 * ABANDONED * ENDLESS["max_tokens"]


@pytest.mark.parametrize("method", ["generate", "stream"])
async def test_cancelled_calls_and_closed_streams_free_the_engine(
    service: LocalService, llm: Client, method: str
) -> None:
    calls: list[asyncio.Future[Any]]
    before = service.load(llm).generated_tokens
    async with AsyncClient(service.address) as client:
        asked = [(service.tiny, f"{n}: {PROMPT}") for n in range(ABANDONED)]
        if method == "stream":
            streams = [client.stream(*call, **ENDLESS) for call in asked]
            calls = [asyncio.ensure_future(stream.__anext__()) for stream in streams]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            for stream in streams:  # one by one: grpc.aio may hang if hundreds end together
                await stream.aclose()
        else:
            calls = [asyncio.ensure_future(client.generate(*call, **ENDLESS)) for call in asked]
            await eventually(lambda: service.load(llm).running > 0)
            for call in calls:
                call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await check_freed(service, llm, before)


async def test_expired_deadlines_free_the_engine(service: LocalService, llm: Client) -> None:
    before = service.load(llm).generated_tokens
    async with AsyncClient(service.address) as client:

        async def expire(seconds: float) -> list[object]:
            calls = (
                client.generate(service.tiny, f"{n}: {PROMPT}", timeout=seconds, **ENDLESS)
                for n in range(ABANDONED)
            )
            return await asyncio.gather(*calls, return_exceptions=True)

        errors = await reaching(lambda: service.load(llm).generated_tokens > before, expire)
        assert {type(error) for error in errors} == {DeadlineExceededError}
        await check_freed(service, llm, before)


async def test_a_full_queue_refuses_calls(service: LocalService) -> None:
    """16 calls run and 200 may wait, so 44 of 260 end soon: they are refused.

    On a slow machine a few have completed before the last ones arrive.
    """
    async with AsyncClient(service.address) as client:
        calls = [
            asyncio.ensure_future(client.generate(service.tiny, PROMPT, **ENDLESS))
            for _ in range(260)
        ]
        done, pending = set(), set(calls)
        while len(done) < 44:
            more, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        for call in pending:
            call.cancel()
        await asyncio.wait(pending)
    refused = [error for call in done if (error := call.exception())]
    assert {type(error) for error in refused} == {ResourceExhaustedError}
    assert {getattr(error, "retry_after", None) for error in refused} == {1.0}


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


def test_the_service_still_serves(service: LocalService, llm: Client) -> None:
    """The last test of this file: no test above has ended an engine or found a bug."""
    assert llm.is_available(service.tiny).state == ModelState.READY
    assert service.is_idle(llm)
    assert "bug" not in re.findall(r"event=(\w+)", service.log())


def test_vllm_refuses_a_temperature_over_its_maximum(service: LocalService, llm: Client) -> None:
    if service.name == "vllm":
        arguments = {"model": service.tiny, "prompt": PROMPT, "temperature": 2.1}
        check_refused(llm, "generate", arguments, UNSUPPORTED, "config.temperature")
