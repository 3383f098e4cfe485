"""Texts, choices and scores use the same strings and tokens, with every kind of tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from tokenizers import AddedToken

from arena_llm.types import (
    Choices,
    Completion,
    Constraint,
    Continuation,
    FinishReason,
    JsonSchema,
    Regex,
    ReturnOptions,
    ScoringRequest,
    StopMatch,
)
from services.common.errors import InvalidRequest
from services.hf.loading import LoadedModel
from services.hf.request import prepare_generation, prepare_scoring
from services.hf.sampling import Sampled
from tests.support.tokenizers import KINDS, make_model
from tests.unit.hf.engine_driver import NAME, DrivenRequest, engine, load_tiny, request

IDS = ReturnOptions(token_ids=True)
#: Texts that every kind writes.
TEXTS = ["0", "left", "left corner"]


@pytest.fixture(scope="module")
def of_kind(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedModel]:
    return cache(lambda kind: load_tiny(make_model(tmp_path_factory.mktemp("kind"), kind)))


def complete(loaded: LoadedModel, constraint: Constraint | None = None, **more: Any) -> Completion:
    with engine(loaded.forward) as running:
        generation = request("left", constraint, IDS, **more)
        return DrivenRequest(loaded, running, generation).completion()


def ids(reply: Completion) -> list[int]:
    assert reply.completion_tokens is not None
    return [*reply.completion_tokens.ids]


def score_tokens(loaded: LoadedModel, *texts: str) -> list[list[int]]:
    scoring = ScoringRequest(NAME, "left", tuple(map(Continuation, texts)))
    return prepare_scoring(loaded, scoring, lambda result: None).continuations


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_what_the_decoder_writes(
    of_kind: Callable[[str], LoadedModel], kind: str
) -> None:
    loaded = of_kind(kind)
    for text in ("left corner", "Yes or no"):
        tokens = loaded.tokenizer(text, add_special_tokens=False).input_ids
        events: list[Any] = []
        sequence = prepare_generation(loaded, request("left"), 99, events.append)
        for token in [*tokens, *loaded.eos]:
            sequence.accept(Sampled(token))
        expected = loaded.tokenizer.decode(tokens, skip_special_tokens=True)
        assert events[-1].text == expected
        assert "".join(delta.text for delta in events[:-1]) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_choice_has_the_tokens_of_its_score(
    of_kind: Callable[[str], LoadedModel], kind: str
) -> None:
    loaded = of_kind(kind)
    for text, tokens in zip(TEXTS, score_tokens(loaded, *TEXTS), strict=True):
        reply = complete(loaded, Choices((text,)))
        assert reply.text == text
        if not loaded.vocabulary.trails:  # else a choice may lack the space after its last word
            assert [token for token in ids(reply) if token not in loaded.eos] == tokens
        assert loaded.tokenizer.decode(tokens, skip_special_tokens=True) == text


@pytest.mark.parametrize("kind", KINDS)
def test_choices_that_begin_others(of_kind: Callable[[str], LoadedModel], kind: str) -> None:
    loaded = of_kind(kind)
    values = ("left", "left corner", "0")
    replies = [complete(loaded, Choices(values), seed=seed) for seed in range(12)]
    assert {reply.text for reply in replies} <= {*values}
    assert all(reply.finish_reason is FinishReason.STOP for reply in replies)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pattern_decides_about_the_text(of_kind: Callable[[str], LoadedModel], kind: str) -> None:
    loaded = of_kind(kind)
    assert complete(loaded, Regex("left( corner)?|[0-8]"), seed=1).text in {
        "left", "left corner", *"012345678",
    }  # fmt: skip
    assert complete(loaded, JsonSchema('{"enum": [0, 7]}')).text in {"0", "7"}


@pytest.mark.parametrize("kind", ["wordpiece", "words", "metaspace, always"])
def test_what_a_vocabulary_cannot_write_is_refused_by_both(
    of_kind: Callable[[str], LoadedModel], kind: str
) -> None:
    loaded = of_kind(kind)
    with pytest.raises(InvalidRequest, match="cannot write") as caught:
        score_tokens(loaded, "left", "日本")
    assert caught.value.field == "continuations[1]"
    with pytest.raises(InvalidRequest, match="cannot write"):
        complete(loaded, Choices(("日本",)))


@pytest.mark.parametrize("stop", ["<|im_start|>", "corner<|im_start|>", "<|im_end|>"])
def test_a_stop_string_may_be_a_special_token(
    of_kind: Callable[[str], LoadedModel], stop: str
) -> None:
    loaded = of_kind("byte level")
    events: list[Any] = []
    sampling = {"stop": (stop,), "ignore_eos": stop == "<|im_end|>"}
    sequence = prepare_generation(loaded, request("left", **sampling), 99, events.append)
    written = f"left corner{stop.removeprefix('corner')} Yes"
    tokens = loaded.tokenizer(written, add_special_tokens=False).input_ids
    assert any(sequence.accept(Sampled(token)) for token in tokens)
    reply = events[-1]
    assert reply.stop_match == StopMatch(text=stop)
    assert reply.text == ("left " if stop.startswith("corner") else "left corner")


def test_a_special_token_that_only_begins_a_stop_string(
    of_kind: Callable[[str], LoadedModel],
) -> None:
    loaded = of_kind("byte level")
    events: list[Any] = []
    generation = request("left", stop=("<|im_start|>user", "<|im_start|>"[:5]))
    sequence = prepare_generation(loaded, generation, 99, events.append)
    for token in loaded.tokenizer("left<|im_start|>Yes<|im_end|>").input_ids:
        sequence.accept(Sampled(token))
    assert events[-1].text == "leftYes"
    assert events[-1].stop_match is None


@pytest.mark.parametrize("values", [("77", "7"), ("7",), ("77",)])
def test_an_end_token_that_is_text_does_not_cut_a_choice(
    tmp_path: Any, values: tuple[str, ...]
) -> None:
    folder = make_model(tmp_path, "byte level")
    loaded = load_tiny(folder)
    [seven] = loaded.tokenizer("7").input_ids
    loaded.forward.model.generation_config.eos_token_id = [1, seven]  # type: ignore[attr-defined]
    loaded.forward.model.generation_config.save_pretrained(folder)  # type: ignore[attr-defined]
    ending = load_tiny(folder)
    assert ending.eos == {1, seven}
    for bias, text in (({seven: 100.0}, max(values)), ({seven: -20.0, 1: 100.0}, min(values))):
        reply = complete(ending, Choices(values), logit_bias=bias, temperature=0.0)
        assert (reply.text, reply.finish_reason) == (text, FinishReason.STOP)
    assert complete(ending, Regex("7{3}")).text == "777"


def test_an_end_token_that_is_text_ends_a_free_text(tmp_path: Any) -> None:
    folder = make_model(tmp_path, "byte level")
    loaded = load_tiny(folder)
    [seven] = loaded.tokenizer("7").input_ids
    config = loaded.forward.model.generation_config  # type: ignore[attr-defined]
    config.eos_token_id = [1, seven]
    config.save_pretrained(folder)
    reply = complete(load_tiny(folder), logit_bias={seven: 100.0}, temperature=0.0)
    assert (reply.text, reply.finish_reason) == ("", FinishReason.STOP)


def test_an_added_token_ends_a_choice_that_begins_another(tmp_path: Any) -> None:
    """Some tokenizers do not mark the token that ends a turn as special."""
    folder = make_model(tmp_path, "byte level")
    loaded = load_tiny(folder)
    loaded.tokenizer.add_tokens([AddedToken("<turn>", special=False)])
    loaded.tokenizer.save_pretrained(folder)
    turn = loaded.tokenizer.convert_tokens_to_ids("<turn>")
    config = loaded.forward.model.generation_config  # type: ignore[attr-defined]
    config.eos_token_id = [turn]
    config.save_pretrained(folder)
    reply = complete(load_tiny(folder), Choices(("7", "77")), logit_bias={turn: 100.0})
    assert reply.text == "7"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xe6\x97\xa5", "日"),
        (b"a\xe6\x97\xa5b", "a日b"),
        # One wrong byte makes all bytes beside it wrong.
        (b"a\xe6\x97\xa5\xff", "\ufffd" * 5),
        (b"\xe6\x97", "\ufffd" * 2),
    ],
)
@pytest.mark.parametrize("after", ["", "left"])
def test_the_bytes_of_byte_fallback(
    of_kind: Callable[[str], LoadedModel], data: bytes, text: str, after: str
) -> None:
    loaded = of_kind("sentencepiece")
    known = loaded.tokenizer.get_vocab()
    tokens = [known[f"<0x{byte:02X}>"] for byte in data]
    tokens += loaded.tokenizer(after, add_special_tokens=False).input_ids
    events: list[Any] = []
    sequence = prepare_generation(loaded, request("left"), 99, events.append)
    for token in [*tokens, *loaded.eos]:
        sequence.accept(Sampled(token))
    assert events[-1].text == text + after == loaded.tokenizer.decode(tokens)
    assert "".join(delta.text for delta in events[:-1]) == text + after


@pytest.mark.parametrize("special", [True, False])
def test_the_tags_of_reasoning_may_be_special_tokens(tmp_path: Any, special: bool) -> None:
    folder = make_model(tmp_path, "byte level")
    loaded = load_tiny(folder)
    tags = ("<think>", "</think>", "<tool_call>", "</tool_call>")
    loaded.tokenizer.add_tokens([AddedToken(tag, special=special) for tag in tags])
    loaded.tokenizer.save_pretrained(folder)
    thinking = load_tiny(folder, reasoning_parser="think")
    events: list[Any] = []
    sequence = prepare_generation(thinking, request("left"), 99, events.append)
    for token in thinking.tokenizer("<think>7</think>8<|im_end|>").input_ids:
        sequence.accept(Sampled(token))
    assert (events[-1].reasoning, events[-1].text) == ("7", "8")
