"""A reply of a backend that breaks the contract is an error, and the log names the fault."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from arena_llm.types import (
    Availability,
    Completion,
    CountRequest,
    Delta,
    FinishReason,
    GenerationRequest,
    Message,
    Model,
    Part,
    Progress,
    Refusal,
    Score,
    Scoring,
    ScoringRequest,
    ServedBy,
    Text,
    TokenCount,
    TokenTrace,
    ToolCall,
    ToolResult,
    Usage,
)
from arena_llm.v1 import models_pb2
from services.common.backend import split_message
from services.common.servicer import LlmServicer
from tests.support.logs import capture_logs
from tests.support.scripted import ScriptedBackend, serving
from tests.support.wire import (
    count_request,
    details,
    failure,
    reason,
    request,
    score_request,
    stub,
)

GOOD = Completion(Message("assistant", "a"), FinishReason.STOP, Usage(1, 1))


def say(*parts: Part) -> Completion:
    return replace(GOOD, message=Message("assistant", parts))


#: What a backend returns, the request, and a part of the error that its author reads.
BROKEN: dict[str, tuple[Any, dict[str, Any], str]] = {
    "another type": ({"text": "a"}, {}, "returned a dict, not"),
    "a model without the prefix": (
        replace(GOOD, served_by=ServedBy(model="model")),
        {},
        "does not start with 'hf_'",
    ),
    "none of the choices": (
        GOOD,
        {"constraint": {"choices": {"values": ["b", "c"]}}},
        "not one of the choices",
    ),
    "a choice and more": (
        say(Text("b\n")),
        {"constraint": {"choices": {"values": ["b", "c"]}}},
        "not one of the choices",
    ),
    "no JSON": (GOOD, {"constraint": {"json_schema": {"schema": "{}"}}}, "not JSON"),
    "another role": (replace(GOOD, message=Message("user", "a")), {}, "not the assistant's"),
    "a message of another type": (
        replace(GOOD, message="a"),  # type: ignore[arg-type]
        {},
        "Completion.message is a str, not Message",
    ),
    "a usage of another type": (
        replace(GOOD, usage={"prompt_tokens": 1}),  # type: ignore[arg-type]
        {},
        "Completion.usage is a dict, not Usage",
    ),
    "a part of another type": (
        replace(GOOD, message=Message("assistant", [{"text": "a"}])),  # type: ignore[list-item]
        {},
        "a part of Completion.message is a dict, not a Part",
    ),
    "an empty text": (say(Text("")), {}, "an empty text"),
    "a tool call without an id": (say(ToolCall("", "move")), {}, "no id or no name"),
    "a tool's result": (say(ToolResult("c")), {}, "kind 'tool_result'"),
}


class BrokenBackend(ScriptedBackend):
    """Returns or yields the given replies."""

    def __init__(self, *replies: Any) -> None:
        super().__init__()
        self.replies = replies

    async def generate_response(self, request: GenerationRequest) -> Completion:
        return self.replies[-1]  # type: ignore[no-any-return]

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Progress | Completion, None]:
        for reply in self.replies:
            yield reply

    async def score(self, request: ScoringRequest) -> Scoring:
        return self.replies[0]  # type: ignore[no-any-return]

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        return self.replies[0]  # type: ignore[no-any-return]

    async def is_model_available(self, model: str) -> Availability:
        return self.replies[0]  # type: ignore[no-any-return]

    async def get_available_models(self) -> Sequence[Model]:
        return self.replies


async def check_broken(rpc: str, asked: Any, backend: BrokenBackend, problem: str) -> None:
    """The caller gets INTERNAL with the problem, and the log has it too."""
    with capture_logs() as log:
        async with serving(LlmServicer(backend)) as server, stub(server.address) as llm:
            error = await failure(getattr(llm, rpc)(asked))
    assert (error.code().name, reason(error)) == ("INTERNAL", "INTERNAL")
    assert problem in error.details()
    assert "backend" in error.details()
    (bug,) = [line for line in log if line["event"] == "bug"]
    assert problem in bug["message"]


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_a_reply_that_breaks_the_contract_is_internal(rpc: str, case: str) -> None:
    reply, over, problem = BROKEN[case]
    message = reply.message if isinstance(reply, Completion) else None
    deltas = split_message(message) if isinstance(message, Message) else ()
    await check_broken(rpc, request(**over), BrokenBackend(*deltas, reply), problem)


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([], "ended without a completion"),
        ([Delta("a")], "ended without a completion"),
        ([Delta("b"), GOOD], "do not add up"),
        ([GOOD.usage, GOOD], "returned a Usage, not Delta"),
    ],
)
async def test_a_stream_that_breaks_the_contract_is_internal(
    events: list[Any], problem: str
) -> None:
    await check_broken("StreamGenerate", request(), BrokenBackend(*events), problem)


@pytest.mark.parametrize(
    ("rpc", "replies", "problem"),
    [
        ("Score", [Scoring(())], "one score for each continuation"),
        ("Score", [Scoring((Score(-1), Score(-1)))], "one score for each continuation"),
        ("Score", [Scoring((Score(math.nan),))], "NaN"),
        ("CountTokens", [7], "returned a int, not TokenCount"),
        ("Score", [None], "returned a NoneType"),
        ("IsAvailable", [True], "returned a bool, not Availability"),
        ("ListModels", [Model("model")], "'model' does not start with 'hf_'"),
        ("ListModels", [Model("hf_a"), Model("hf_a")], "listed twice"),
        ("ListModels", ["hf_a"], "returned a str, not Model"),
    ],
)
async def test_other_replies_that_break_the_contract_are_internal(
    rpc: str, replies: list[Any], problem: str
) -> None:
    asked = {
        "Score": score_request(),
        "CountTokens": count_request(),
        "IsAvailable": models_pb2.IsAvailableRequest(model="hf_model"),
        "ListModels": models_pb2.ListModelsRequest(),
    }[rpc]
    await check_broken(rpc, asked, BrokenBackend(*replies), problem)


async def test_a_choice_that_max_tokens_cut_names_max_tokens() -> None:
    backend = BrokenBackend(replace(GOOD, finish_reason=FinishReason.LENGTH))
    choices = {"choices": {"values": ["ab", "b"]}}
    async with serving(LlmServicer(backend)) as server, stub(server.address) as llm:
        error = await failure(llm.Generate(request(constraint=choices, config={"max_tokens": 1})))
    assert reason(error) == "INVALID_REQUEST"
    assert details(error)["BadRequest"].field_violations[0].field == "config.max_tokens"
    assert details(error)["CallReport"].usage.completion_tokens == 1


@pytest.mark.parametrize("ends", [FinishReason.REFUSAL, FinishReason.CONTENT_FILTER])
async def test_a_refusal_need_not_keep_the_constraint(ends: FinishReason) -> None:
    """And it gets no synthetic text."""
    choices = {"choices": {"values": ["a", "b"]}}
    for parts in ((), (Refusal("I must not play"),)):
        backend = BrokenBackend(replace(say(*parts), finish_reason=ends))
        async with serving(LlmServicer(backend)) as server, stub(server.address) as llm:
            reply = await llm.Generate(request(constraint=choices))
        assert (reply.text, len(reply.message.parts)) == ("", len(parts))


async def test_tokens_come_only_if_requested() -> None:
    trace = TokenTrace(ids=(5,), logprobs=(-1.0,))
    backend = BrokenBackend(replace(GOOD, completion_tokens=trace, prompt_tokens=trace))
    async with serving(LlmServicer(backend)) as server, stub(server.address) as llm:
        plain = await llm.Generate(request())
        asked = await llm.Generate(request(returns={"top_logprobs": 0}))
    assert not plain.HasField("completion_tokens")
    assert not plain.HasField("prompt_tokens")
    assert list(asked.completion_tokens.logprobs) == [-1.0]
