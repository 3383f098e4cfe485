"""Every backend keeps the contract, tested through the real client.

Each table has one row per field of the contract. A backend answers a row, or refuses it as
UNSUPPORTED and names the field; it declares which in its class.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from arena_llm import Message
from arena_llm.errors import ArenaError, DeadlineExceededError, NotFoundError
from arena_llm.types import SAMPLING_PARAMETERS, Completion, FinishReason
from tests.conformance.conftest import Target
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = "The board is empty. Choose a move: north, south or 3. Then say why, in one sentence."


class Row(NamedTuple):
    """One field of the contract.

    field: its path in the request. options: what the client sends. problem: returns what is
    wrong with the reply, or "". honoured: whether the backend's class says that it does.
    """

    field: str
    options: dict[str, Any]
    problem: Callable[[Completion], str]
    honoured: Callable[[Target], bool]


def fine(_: Completion) -> str:
    """The reply does not show whether the field was honoured."""
    return ""


def check_max_tokens(reply: Completion) -> str:
    if reply.usage.completion_tokens > 3:
        return f"{reply.usage.completion_tokens} completion tokens, not at most 3"
    return ""


def check_stop(reply: Completion) -> str:
    return "the text contains a stop string" if re.search("[aeiou ]", reply.text) else ""


def check_logprobs(reply: Completion) -> str:
    if reply.text and not reply.logprobs:
        return "no log-probabilities"
    if any(token.logprob > 1e-6 for token in reply.logprobs):
        return "a log-probability is over 0"
    if any(len(token.top) > 2 for token in reply.logprobs):
        return "more alternatives than requested"
    return ""


#: A value for each sampling parameter, and what its reply must show.
PARAMETERS: dict[str, tuple[Any, Callable[[Completion], str]]] = {
    "temperature": (0.5, fine),
    "top_p": (0.5, fine),
    "top_k": (3, fine),
    "max_tokens": (3, check_max_tokens),
    "seed": (7, fine),
    "stop": (["a", "e", "i", "o", "u", " "], check_stop),
    "presence_penalty": (0.5, fine),
    "frequency_penalty": (0.5, fine),
    "logprobs": (2, check_logprobs),
}

CHOICES = ["north", "south-west", "3"]
SCHEMA = {
    "type": "object",
    "properties": {"move": {"enum": ["a", "b"]}},
    "required": ["move"],
    "additionalProperties": False,
}


def check_choice(reply: Completion) -> str:
    return "" if reply.text in CHOICES else f"{reply.text!r} is not one of the choices"


def check_schema(reply: Completion) -> str:
    fits = json.loads(reply.text) in ({"move": "a"}, {"move": "b"})
    return "" if fits else f"{reply.text!r} does not fit the schema"


def check_regex(reply: Completion) -> str:
    return "" if re.fullmatch("[ab]{2}", reply.text) else f"{reply.text!r} does not match"


CONSTRAINTS: dict[str, tuple[Any, Callable[[Completion], str]]] = {
    "choices": (CHOICES, check_choice),
    "json_schema": (SCHEMA, check_schema),
    "regex": ("[ab]{2}", check_regex),
}


def parameter_row(name: str) -> Row:
    value, problem = PARAMETERS[name]
    options = {name: value} if name == "max_tokens" else {name: value, "max_tokens": 16}
    return Row(f"config.{name}", options, problem, lambda t: name in t.backend.parameters)


def constraint_row(name: str) -> Row:
    value, problem = CONSTRAINTS[name]
    return Row(
        f"constraint.{name}", {name: value}, problem, lambda t: name in t.backend.constraints
    )


ROWS: Sequence[Row] = [
    *map(parameter_row, PARAMETERS),
    *map(constraint_row, CONSTRAINTS),
]


async def test_the_tables_have_every_sampling_parameter() -> None:
    assert PARAMETERS.keys() == SAMPLING_PARAMETERS.keys()


async def generate(target: Target, streamed: bool, **options: Any) -> Completion:
    """One completion. The deltas of a stream must add up to its text."""
    # Where it is refused, the reply is as long as the backend's default.
    if "max_tokens" not in target.backend.parameters:
        options = {name: value for name, value in options.items() if name != "max_tokens"}
    if not streamed:
        return await target.llm.generate(target.model, PROMPT, **options)
    stream = target.llm.stream(target.model, PROMPT, **options)
    text = "".join([delta async for delta in stream])
    assert stream.completion is not None
    assert stream.completion.text == text
    return stream.completion


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_reply_names_its_model_and_has_its_usage_and_times(
    target: Target, streamed: bool
) -> None:
    reply = await generate(target, streamed, max_tokens=16)
    assert reply.backend == target.backend.name
    assert reply.model.startswith(f"{target.backend.name}_")
    assert reply.finish_reason is not FinishReason.UNKNOWN
    assert reply.usage.prompt_tokens > 0
    assert reply.timings.total_seconds >= reply.timings.first_token_seconds >= 0
    assert not reply.logprobs


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.field)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_field_is_honoured_or_refused_by_name(
    target: Target, row: Row, streamed: bool
) -> None:
    if "max_tokens" not in target.backend.parameters and row.field == "config.max_tokens":
        call = target.llm.generate(target.model, PROMPT, **row.options)
    else:
        call = generate(target, streamed, **row.options)
    if row.honoured(target):
        assert row.problem(await call) == ""
        return
    with pytest.raises(ArenaError) as caught:
        await call
    assert (caught.value.reason, caught.value.field) == ("UNSUPPORTED", row.field)


async def test_provider_options_are_refused_if_it_takes_none(target: Target) -> None:
    if target.backend.takes_provider_options:
        pytest.skip("which options a provider takes is not part of the contract")
    with pytest.raises(ArenaError) as caught:
        await target.llm.generate(target.model, PROMPT, provider_options={"a": 1})
    assert (caught.value.reason, caught.value.field) == ("UNSUPPORTED", "provider_options")


async def test_continuations_are_scored_or_refused(target: Target) -> None:
    if not target.backend.can_score:
        with pytest.raises(ArenaError) as caught:
            await target.llm.score(target.model, PROMPT, CHOICES)
        assert caught.value.reason == "UNSUPPORTED"
        return
    scores = await target.llm.score(target.model, PROMPT, CHOICES)
    assert [score.text for score in scores] == CHOICES
    assert all(score.logprob <= 1e-6 and score.tokens >= 1 for score in scores)


async def test_a_conversation_is_answered_or_refused_by_name(target: Target) -> None:
    talk = [Message("user", "hi"), Message("assistant", "hello"), Message("user", PROMPT)]
    try:
        reply = await target.llm.generate(target.model, messages=talk)
    except ArenaError as error:  # a base model has no chat template
        assert error.field.startswith("conversation")  # noqa: PT017 - both ends are right
    else:
        assert reply.finish_reason is not FinishReason.UNKNOWN


async def test_the_model_is_listed_and_available(target: Target) -> None:
    listed = await target.llm.list_models()
    names = [model.name for model in listed]
    assert target.model in names
    assert all(name.startswith(f"{target.backend.name}_") for name in names)
    available = await target.llm.is_available(target.model)
    assert available.available, available.detail
    assert not available.reason


@pytest.mark.parametrize("suffix", ["no-such-model", ""])
async def test_an_unknown_model_is_not_found(target: Target, suffix: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        await target.llm.generate(f"{target.backend.name}_{suffix}", PROMPT)
    assert (caught.value.reason, caught.value.field) == ("MODEL_NOT_FOUND", "model")


async def test_calls_at_the_same_time_are_all_answered(target: Target) -> None:
    replies = await asyncio.gather(
        *(generate(target, streamed=bool(n % 2), max_tokens=8) for n in range(8))
    )
    assert len(replies) == 8


async def answers(target: Target) -> None:
    """No call is inside the backend any more, and it still answers."""
    await eventually(lambda: not target.running, target.patience)
    assert await generate(target, streamed=False, max_tokens=8)


async def test_a_cancelled_call_ends_in_the_backend(target: Target) -> None:
    entered = target.entered
    call = asyncio.create_task(target.llm.generate(target.model, PROMPT))
    await eventually(lambda: target.entered > entered)
    call.cancel()
    await asyncio.wait([call])
    await answers(target)


async def test_a_closed_stream_ends_in_the_backend(target: Target) -> None:
    async with target.llm.stream(target.model, PROMPT) as stream:
        async for _ in stream:
            break
    await answers(target)


async def test_a_call_past_its_deadline_ends_in_the_backend(target: Target) -> None:
    with suppress(DeadlineExceededError):  # a fast backend has answered by then
        await target.llm.generate(target.model, PROMPT, timeout=0.02)
    await answers(target)
