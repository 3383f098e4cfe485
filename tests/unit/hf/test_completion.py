"""What a completion holds beside its text: tokens, log-probabilities, and what stopped it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from arena_llm.types import (
    Completion,
    Continuation,
    Delta,
    Enforcement,
    FinishReason,
    GenerationRequest,
    LogprobKind,
    RawPrompt,
    ReasoningOptions,
    ReasoningVisibility,
    Regex,
    ReturnOptions,
    ScoringRequest,
    StopMatch,
    TokenTrace,
    Tool,
)
from services.common.errors import InvalidRequest, Unsupported
from services.common.local.parts import MessageBuilder
from services.hf.forward import Scored, ScoringTask
from services.hf.loading import LoadedModel
from services.hf.request import prepare_generation, prepare_scoring
from services.hf.sampling import Sampled
from tests.support.tiny_models import CHATML, make_checkpoint
from tests.unit.hf.conftest import Models
from tests.unit.hf.engine_driver import NAME, DrivenRequest, engine, finished, load_tiny, request

EVERYTHING = ReturnOptions(token_ids=True, top_logprobs=2, raw_text=True)
IDS = ReturnOptions(token_ids=True)
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 12}


def complete(loaded: LoadedModel, generation: GenerationRequest) -> Completion:
    with engine(loaded.forward) as running:
        return DrivenRequest(loaded, running, generation).completion()


def generated(loaded: LoadedModel, **sampling: Any) -> TokenTrace:
    trace = complete(loaded, request("7", returns=IDS, **{**GREEDY, **sampling})).completion_tokens
    assert trace is not None
    return trace


def test_every_column_belongs_to_the_tokens(loaded: LoadedModel) -> None:
    reply = complete(loaded, request("é 7", returns=EVERYTHING, max_tokens=20, seed=3))
    prompt, trace = reply.prompt_tokens, reply.completion_tokens
    assert prompt is not None
    assert trace is not None
    assert (prompt.raw_text, len(prompt)) == ("é 7", reply.usage.prompt_tokens)
    assert b"".join(prompt.bytes).decode() == "é 7"
    assert prompt.ids == tuple(loaded.tokenizer("é 7").input_ids)
    assert prompt.logprobs == ()
    tokens = reply.usage.completion_tokens
    columns = (trace.ids, trace.logprobs, trace.bytes, trace.text_ends)
    assert [len(column) for column in columns] == [tokens] * 4
    assert len(trace.top_ids) == len(trace.top_logprobs) == len(trace.top_bytes) == 2 * tokens
    assert (trace.top_count, trace.kind, trace.unscored) == (2, LogprobKind.RAW, 0)
    assert trace.raw_text == b"".join(trace.bytes).decode(errors="replace")
    assert trace.text_ends[-1] == len(trace.raw_text)
    assert [*trace.text_ends] == sorted(trace.text_ends)


def test_an_end_token_is_in_the_trace_and_not_in_the_text(loaded: LoadedModel) -> None:
    [end] = loaded.eos
    options: dict[str, Any] = {"logit_bias": {end: 100.0}, "min_tokens": 3, "max_tokens": 9}
    reply = complete(loaded, request("7", returns=EVERYTHING, temperature=0.0, **options))
    trace = reply.completion_tokens
    assert trace is not None
    assert trace.ids[-1] == end
    assert end not in trace.ids[:-1]
    assert len(trace.logprobs) == reply.usage.completion_tokens == 4
    assert trace.raw_text.endswith("<|im_end|>")
    assert "<|im_end|>" not in reply.text
    assert (reply.finish_reason, reply.stop_match) == (FinishReason.STOP, None)


def test_the_end_token_can_be_ignored(loaded: LoadedModel) -> None:
    [end] = loaded.eos
    trace = generated(loaded, logit_bias={end: 100.0}, ignore_eos=True)
    assert trace.ids == (end,) * 12


def test_a_stop_token_ends_the_text_before_it(loaded: LoadedModel) -> None:
    ids = generated(loaded).ids
    stop = ids[4]
    sampling = {**GREEDY, "stop_token_ids": (stop, 3)}
    reply = complete(loaded, request("7", returns=IDS, **sampling))
    assert reply.stop_match == StopMatch(token_id=stop)
    assert reply.finish_reason == FinishReason.STOP
    trace = reply.completion_tokens
    assert trace is not None
    assert trace.ids == ids[: ids.index(stop) + 1]
    before = trace.bytes[:-1]
    assert reply.text == b"".join(before).decode(errors="replace")


def test_a_stop_string_is_named(loaded: LoadedModel) -> None:
    pattern = Regex("(7 ){9}END(7 ){9}")
    reply = complete(loaded, request("7", pattern, max_tokens=90, stop=("no", "END")))
    assert (reply.text, reply.stop_match) == ("7 " * 9, StopMatch(text="END"))


def test_no_stop_string_ends_the_text_before_min_tokens(loaded: LoadedModel) -> None:
    texts = [token.text for token in generated(loaded)]
    stop = texts[2]
    early = complete(loaded, request("7", stop=(stop,), **GREEDY))
    late = complete(loaded, request("7", stop=(stop,), min_tokens=8, **GREEDY))
    assert early.usage.completion_tokens is not None
    assert late.usage.completion_tokens is not None
    assert early.usage.completion_tokens <= 3
    assert late.usage.completion_tokens >= 8
    assert stop in late.text


@pytest.mark.parametrize(
    ("max_tokens", "reason"), [(None, FinishReason.CONTEXT), (4, FinishReason.LENGTH)]
)
def test_a_full_context_ends_the_text(
    loaded: LoadedModel, max_tokens: int | None, reason: FinishReason
) -> None:
    generation = request("7" * 508, ignore_eos=True, max_tokens=max_tokens)
    reply = complete(loaded, generation)
    assert (reply.usage.completion_tokens, reply.finish_reason) == (4, reason)


def test_a_constraint_is_enforced_by_decoding(loaded: LoadedModel) -> None:
    assert complete(loaded, request("7", Regex("[01]"))).enforcement is Enforcement.DECODING
    assert complete(loaded, request("7", max_tokens=1)).enforcement is None


@pytest.mark.parametrize("name", ["min_tokens", "stop_token_ids", "ignore_eos"])
def test_nothing_else_moves_the_end_of_a_constrained_text(loaded: LoadedModel, name: str) -> None:
    value: Any = {"min_tokens": 2, "stop_token_ids": (5,), "ignore_eos": True}[name]
    with pytest.raises(InvalidRequest, match="with a constraint") as caught:
        complete(loaded, request("7", Regex("[01]"), **{name: value}))
    assert caught.value.field == f"config.{name}"


@pytest.mark.parametrize(
    ("sampling", "returns", "field"),
    [
        ({"stop_token_ids": (400,)}, IDS, "config.stop_token_ids"),
        ({"logit_bias": {400: 1.0}}, IDS, "config.logit_bias"),
        ({}, ReturnOptions(logprob_token_ids=(400,)), "returns.logprob_token_ids"),
        ({"min_tokens": 5, "max_tokens": 4}, IDS, "config.min_tokens"),
    ],
    ids=str,
)
def test_settings_that_the_model_cannot_honour(
    loaded: LoadedModel, sampling: dict[str, Any], returns: ReturnOptions, field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        complete(loaded, request("7", returns=returns, **sampling))
    assert caught.value.field == field


def test_the_deltas_have_the_tokens_of_the_text(loaded: LoadedModel) -> None:
    sent: list[int] = []
    with engine(loaded.forward) as running:
        driven = DrivenRequest(loaded, running, request("7", returns=EVERYTHING, **GREEDY))
        while isinstance(event := driven.next(), Delta):
            assert event.tokens is not None
            sent += event.tokens.ids
            assert len(event.tokens.logprobs) == len(event.tokens.ids)
    assert event.completion_tokens is not None
    assert tuple(sent) == event.completion_tokens.ids[: len(sent)]
    assert sent


TOOL_TEMPLATE = "{{ tools }}" + CHATML


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model that calls tools and reasons."""
    folder = make_checkpoint(tmp_path_factory.mktemp("caller"), "llama")
    template = folder / "chat.jinja"
    template.write_text(TOOL_TEMPLATE)
    parsers = {"tool_parser": "hermes", "reasoning_parser": "think"}
    return load_tiny(folder, chat_template=template, **parsers)


def written(caller: LoadedModel, text: str, generation: GenerationRequest) -> list[Any]:
    """The events of a model that writes this text."""
    events: list[Any] = []
    sequence = prepare_generation(caller, generation, 300, events.append)
    for token in [*caller.tokenizer(text, add_special_tokens=False).input_ids, *caller.eos]:
        sequence.accept(Sampled(token))
    return events


CALLING = '<think>Hm.</think>I look. <tool_call>{"name": "look", "arguments": {"x": 1}}</tool_call>'


@pytest.mark.parametrize("hides", [False, True])
def test_the_parts_of_a_reply(caller: LoadedModel, hides: bool) -> None:
    visibility = ReasoningVisibility.HIDDEN if hides else None
    generation = GenerationRequest(
        NAME,
        "7",
        tools=(Tool("look"),),
        reasoning=ReasoningOptions(visibility=visibility),
        returns=IDS,
    )
    *deltas, reply = written(caller, CALLING, generation)
    assert reply.finish_reason is FinishReason.TOOL_CALLS
    assert reply.reasoning == ("" if hides else "Hm.")
    assert reply.text == "I look."
    [call] = reply.tool_calls
    assert (call.name, call.arguments) == ("look", '{"x": 1}')
    assert 0 < reply.usage.reasoning_tokens < reply.usage.completion_tokens
    builder = MessageBuilder()
    for delta in deltas:
        builder.add(delta)
    assert builder.build() == reply.message
    sent = [token for delta in deltas for token in delta.tokens.ids]
    assert tuple(sent) == reply.completion_tokens.ids[: len(sent)]


def test_calls_are_text_without_tools(caller: LoadedModel) -> None:
    reply = written(caller, CALLING, GenerationRequest(NAME, "7"))[-1]
    assert reply.finish_reason is FinishReason.STOP
    assert reply.text == CALLING.partition("</think>")[2]
    assert not reply.tool_calls


def test_a_raw_prompt_of_token_ids_is_read_unchanged(loaded: LoadedModel) -> None:
    reply = complete(loaded, request(RawPrompt(token_ids=(9, 7, 300)), returns=IDS, max_tokens=1))
    assert reply.prompt_tokens is not None
    assert reply.prompt_tokens.ids == (9, 7, 300)


def scored(loaded: LoadedModel, prompt: Any, **options: Any) -> Scored:
    texts = options.pop("continuations", (Continuation("1"), Continuation("23")))
    job = prepare_scoring(
        loaded, ScoringRequest(NAME, prompt, texts, **options), lambda result: None
    )
    work = loaded.forward.score(
        ScoringTask(job.prompt, job.continuations, job.top, job.with_prompt)
    )
    with torch.inference_mode():
        result: Scored = finished(work)
    return result


def test_a_greedy_completion_is_scored_as_greedy(loaded: LoadedModel) -> None:
    ids = generated(loaded).ids
    other = (ids[0], (ids[1] + 1) % 300)
    texts = tuple(Continuation(token_ids=tokens) for tokens in (ids, other, ids[:1]))
    result = scored(loaded, "7", continuations=texts, top_logprobs=3)
    assert [text.is_greedy for text in result.continuations] == [True, False, True]
    for text in result.continuations[::2]:
        assert all(token.logprob == token.top[0][1] for token in text.tokens)
    assert [len(token.top) for token in result.continuations[1].tokens] == [3, 3]


@pytest.mark.parametrize("length", [1, 9, 70])
def test_prompt_logprobs_are_those_of_its_tokens_as_a_continuation(
    loaded: LoadedModel, length: int
) -> None:
    """A prompt of 70 tokens takes more than one pass."""
    ids = tuple(range(20, 20 + length))
    whole = scored(loaded, RawPrompt(token_ids=ids), prompt_logprobs=True, top_logprobs=1)
    assert len(whole.prompt) == length - 1
    first = RawPrompt(token_ids=ids[:1])
    if length > 1:
        [rest] = scored(
            loaded, first, continuations=(Continuation(token_ids=ids[1:]),)
        ).continuations
        expected = [token.logprob for token in rest.tokens]
        assert [token.logprob for token in whole.prompt] == pytest.approx(expected, abs=1e-3)
    # The continuations are scored after the same prompt.
    sums = [text.logprob for text in whole.continuations]
    again = [text.logprob for text in scored(loaded, RawPrompt(token_ids=ids)).continuations]
    assert sums == pytest.approx(again, abs=1e-3)
    assert all(map(math.isfinite, sums))


def test_an_encoder_gives_its_prompt_no_probabilities(model: Models) -> None:
    with pytest.raises(Unsupported) as caught:
        scored(model("t5"), "7", prompt_logprobs=True)
    assert caught.value.field == "prompt_logprobs"
