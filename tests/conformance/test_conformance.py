"""Every backend keeps the contract, tested through the real client and through a router.

docs/fields.md has one row for each field of the contract. A backend answers a request with the
field, or refuses it as UNSUPPORTED and names the field; its class declares which.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import grpc
import pytest

from arena_llm import Message
from arena_llm.errors import ArenaError, DeadlineExceededError, NotFoundError
from arena_llm.types import Completion, Delta, FinishReason, Refusal, StreamStart
from arena_llm.v1 import REVISION, reply_pb2
from services.common.fields import ALWAYS_HONOURED
from tests.conformance.targets import Target
from tests.support.fields import EXAMPLES, PROMPT, make_field_request, name_field
from tests.support.wire import details, reason, stub

pytestmark = pytest.mark.asyncio(loop_scope="module")

Check = Callable[[reply_pb2.GenerateResponse], str]


def check_max_tokens(reply: reply_pb2.GenerateResponse) -> str:
    tokens = reply.usage.completion_tokens
    return f"{tokens} completion tokens, not at most 3" if tokens > 3 else ""


def check_stop(reply: reply_pb2.GenerateResponse) -> str:
    return "the text contains a stop string" if re.search("[aeo ]", reply.text) else ""


def check_logprobs(reply: reply_pb2.GenerateResponse) -> str:
    trace = reply.completion_tokens
    if reply.text and not trace.logprobs:
        return "no log-probabilities"
    if any(logprob > 1e-6 for logprob in trace.logprobs):
        return "a log-probability is over 0"
    if len(trace.top_logprobs) != trace.top_count * len(trace.logprobs):
        return "the columns do not fit together"
    return ""


def check_token_ids(reply: reply_pb2.GenerateResponse) -> str:
    ids = reply.completion_tokens.ids
    return "" if len(ids) == reply.usage.completion_tokens else "not one id for each token"


def check_choice(reply: reply_pb2.GenerateResponse) -> str:
    fits = reply.text in EXAMPLES["constraint.choices"].fields["constraint"]["choices"]["values"]
    return "" if fits else f"{reply.text!r} is not one of the choices"


def check_schema(reply: reply_pb2.GenerateResponse) -> str:
    fits = json.loads(reply.text) in ({"move": "a"}, {"move": "b"})
    return "" if fits else f"{reply.text!r} does not fit the schema"


def check_regex(reply: reply_pb2.GenerateResponse) -> str:
    return "" if re.fullmatch("[ab]{2}", reply.text) else f"{reply.text!r} does not match"


def check_grammar(reply: reply_pb2.GenerateResponse) -> str:
    return "" if reply.text in ("a", "b") else f"{reply.text!r} does not follow the grammar"


#: What the reply must show if the field is honoured. The replies of others do not show it.
CHECKS: Mapping[str, Check] = {
    "config.max_tokens": check_max_tokens,
    "config.stop": check_stop,
    "returns.top_logprobs": check_logprobs,
    "returns.token_ids": check_token_ids,
    "constraint.choices": check_choice,
    "constraint.json_schema": check_schema,
    "constraint.regex": check_regex,
    "constraint.grammar": check_grammar,
}
#: Reasons with which a backend that honours a field may still refuse the example: the model lacks
#: what the example needs, or its value belongs to another provider.
ALLOWED = {"STATE_MISMATCH", "CONTEXT_TOO_LONG"}


#: A field that only a router honours.
FALLBACKS = "fallback_models.names"
#: Parts that some models read only with the state that their provider gave them.
NEED_STATE = {"conversation.messages.parts.reasoning"}


async def call_with_field(target: Target, path: str, streamed: bool) -> Any:
    """Return the reply to the example of a field, or the error."""
    asked = make_field_request(path, target.model)
    without = {"max_tokens"} if path.startswith(("constraint.", "reasoning.budget")) else set()
    for name, value in target.steady(path.removeprefix("config."), *without).items():
        setattr(asked.config, name, value)
    if path == FALLBACKS:  # of the same backend, so that a router finds it
        asked.fallback_models.names[:] = [f"{target.model}-2"]
    if target.prepare:
        target.prepare(path)
    async with stub(target.address) as llm:
        if not streamed:
            try:
                return await llm.Generate(asked)
            except grpc.aio.AioRpcError as error:
                return error
        events: list[Any] = []
        try:
            async for event in llm.StreamGenerate(asked):
                events.append(event)
        except grpc.aio.AioRpcError as error:
            return error
        return events[-1].completion


@pytest.mark.parametrize("path", EXAMPLES)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_field_is_honoured_or_refused_by_name(
    target: Target, path: str, streamed: bool
) -> None:
    """Each field alone. A model may lack what its backend can do: it then refuses the field, and
    does not list it."""
    listed = path in target.fields
    answer = await call_with_field(target, path, streamed)
    if isinstance(answer, reply_pb2.GenerateResponse):
        # The router honours the fallbacks of all models, and adds them to what they list.
        by_router = listed and path == FALLBACKS
        assert path in target.backend.fields or by_router, f"{path} was ignored"
        assert listed, f"the model does not list {path}"
        # The answer of a fake provider shows nothing.
        check = None if target.prepare else CHECKS.get(path)
        assert check is None or check(answer) == ""
        return
    if path in target.backend.fields and reason(answer) in ALLOWED:
        return
    assert reason(answer) == "UNSUPPORTED", answer.details()
    assert not listed or path in NEED_STATE, f"the model lists {path}"
    violation: Any = details(answer)["BadRequest"]
    field = violation.field_violations[0].field
    # A model that takes no images names the image, not its bytes.
    names = [name_field(path), *map(name_field, EXAMPLES[path].needs)]
    assert any(name == field or name.startswith(f"{field}.") for name in names), field


async def generate(target: Target, streamed: bool, **options: Any) -> Completion:
    """One completion. The deltas of a stream must add up to its text."""
    options = {**target.steady(), **options}
    if target.prepare:
        target.prepare("")
    if not streamed:
        return await target.llm.generate(target.model, PROMPT, **options)
    stream = target.llm.stream(target.model, PROMPT, **options)
    events = [event async for event in stream.events()]
    assert isinstance(events[0], StreamStart)
    deltas = [event for event in events if isinstance(event, Delta)]
    assert "".join(delta.text or "" for delta in deltas) == stream.completion.text
    parts = [delta.part for delta in deltas]
    assert parts == sorted(parts)
    assert set(parts) == set(range(len(stream.completion.message.parts)))
    return stream.completion


async def test_the_revision(target: Target) -> None:
    info = await target.llm.service_info()
    print(f"contract revision {info.contract_revision}")
    assert info.contract_revision == REVISION
    (backend,) = (item for item in info.backends if item.backend == target.backend.name)
    assert backend.prefixes == (target.prefix,)
    assert [replica.contract_revision for replica in backend.replicas] == [REVISION]
    assert backend.limits is not None
    assert backend.limits.max_message_bytes > 0


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_reply_names_its_model_and_has_its_usage_and_times(
    target: Target, streamed: bool
) -> None:
    reply = await generate(target, streamed)
    assert reply.backend == target.backend.name
    assert reply.model.startswith(target.prefix)
    assert reply.served_by.service_version
    assert reply.request_id
    assert not reply.replayed
    assert reply.finish_reason is not FinishReason.UNKNOWN
    assert reply.usage.prompt_tokens is None or reply.usage.prompt_tokens > 0
    assert (reply.usage.cost_picousd is None) == (reply.usage.cost_basis is None)
    first, total = reply.timings.first_token_seconds, reply.timings.total_seconds
    assert total is not None
    assert total >= (first or 0) >= 0
    assert reply.completion_tokens is None


@pytest.mark.parametrize("appended", ["reply", "empty", "refusal"])
async def test_the_message_of_a_reply_can_be_appended(target: Target, appended: str) -> None:
    """Also an empty one, which a model may write at any time."""
    reply = (await generate(target, streamed=False)).message
    if appended != "reply":
        reply = Message("assistant", Refusal("No.") if appended == "refusal" else ())
    talk = [Message("user", PROMPT), reply, Message("user", "Go on.")]
    try:
        assert await target.llm.generate(target.model, messages=talk, **target.steady())  # type: ignore[arg-type]
    except ArenaError as error:  # a base model has no chat template
        assert error.field.startswith("conversation")  # noqa: PT017 - both ends are right


async def test_continuations_are_scored_or_refused(target: Target) -> None:
    choices = ["north", "south-west", "3"]
    if not target.backend.can_score:
        with pytest.raises(ArenaError) as caught:
            await target.llm.score(target.model, PROMPT, choices)
        assert caught.value.reason == "UNSUPPORTED"
        return
    scores = await target.llm.score(target.model, PROMPT, choices)
    assert len(scores) == len(choices)
    for score in scores:
        assert score.logprob <= 1e-6
        assert len(score.tokens) >= 1
        assert sum(score.tokens.logprobs) == pytest.approx(score.logprob, abs=1e-6)


async def test_tokens_are_counted_or_it_is_refused(target: Target) -> None:
    if not target.backend.can_count_tokens:
        with pytest.raises(ArenaError) as caught:
            await target.llm.count_tokens(target.model, PROMPT)
        assert caught.value.reason == "UNSUPPORTED"
        return
    counted = await target.llm.count_tokens(target.model, PROMPT)
    reply = await generate(target, streamed=False)
    assert counted.estimated or counted.tokens == reply.usage.prompt_tokens


async def test_a_conversation_is_answered_or_refused_by_name(target: Target) -> None:
    talk = [Message("user", "hi"), Message("assistant", "hello"), Message("user", PROMPT)]
    try:
        reply = await target.llm.generate(target.model, messages=talk, **target.steady())  # type: ignore[arg-type]
    except ArenaError as error:  # a base model has no chat template
        assert error.field.startswith("conversation")  # noqa: PT017 - both ends are right
    else:
        assert reply.finish_reason is not FinishReason.UNKNOWN


async def test_the_model_is_listed_and_available(target: Target) -> None:
    listed = await target.llm.list_models(target.prefix)
    names = [model.name for model in listed]
    assert target.model in names
    assert all(name.startswith(target.prefix) for name in names)
    available = await target.llm.is_available(target.model)
    assert available.available, available.detail
    assert not available.reason
    assert available.model is not None
    fields = available.model.supported_fields
    assert "prompt" in fields
    if available.model.supported_fields_known:
        assert set(fields) <= ALWAYS_HONOURED | target.backend.fields | {FALLBACKS}


@pytest.mark.parametrize("suffix", ["no-such-model", ""])
async def test_an_unknown_model_is_not_found(target: Target, suffix: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        await target.llm.generate(f"{target.prefix}{suffix}", PROMPT)
    assert (caught.value.reason, caught.value.field) == ("MODEL_NOT_FOUND", "model")


async def test_calls_at_the_same_time_are_all_answered(target: Target) -> None:
    replies = await asyncio.gather(*(generate(target, streamed=bool(n % 2)) for n in range(8)))
    assert len(replies) == 8


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - asks a process
            await asyncio.sleep(0.005)


async def check_left(target: Target) -> None:
    """The backend still answers, and no call is inside it any more."""
    assert await generate(target, streamed=False)  # an engine reports its load after a step

    async def is_empty() -> bool:
        return await target.calls.running() == 0

    await until(is_empty, target.patience)


async def test_a_cancelled_call_ends_in_the_backend(target: Target) -> None:
    before = await target.calls.entered()

    async def has_entered() -> bool:
        return await target.calls.entered() > before

    options: dict[str, Any] = target.steady("max_tokens")
    call = asyncio.create_task(target.llm.generate(target.model, PROMPT, **options))
    await until(has_entered)
    call.cancel()
    await asyncio.wait([call])
    await check_left(target)


async def test_a_closed_stream_ends_in_the_backend(target: Target) -> None:
    options: dict[str, Any] = target.steady("max_tokens")
    async with target.llm.stream(target.model, PROMPT, **options) as stream:
        async for _ in stream:
            break
    await check_left(target)


async def test_a_call_past_its_deadline_ends_in_the_backend(target: Target) -> None:
    with suppress(DeadlineExceededError):  # a fast backend has answered by then
        options: dict[str, Any] = target.steady("max_tokens")
        await target.llm.generate(target.model, PROMPT, timeout=0.02, **options)
    await check_left(target)
