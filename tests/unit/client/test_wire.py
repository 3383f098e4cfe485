"""The mapper between dataclasses and messages."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest
from google.protobuf.message import Message as ProtoMessage

from arena_llm import types
from arena_llm.types import (
    AnyJsonObject,
    Attempt,
    Availability,
    Capability,
    Choices,
    Completion,
    Continuation,
    Conversation,
    Credits,
    Delta,
    EngineLoad,
    FinishReason,
    GenerationRequest,
    Grammar,
    GrammarSyntax,
    JsonSchema,
    Message,
    Model,
    ModelState,
    Rate,
    Regex,
    Sampling,
    ScoringRequest,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from arena_llm.v1 import (
    call_report_pb2,
    content_pb2,
    generate_pb2,
    models_pb2,
    reply_pb2,
    score_pb2,
    service_info_pb2,
)
from arena_llm.wire import FieldError, from_message, to_message
from tests.support.values import make

#: The dataclasses that are messages of their own; together they contain all others.
MESSAGES: dict[type[Any], type[ProtoMessage]] = {
    types.GenerationRequest: generate_pb2.GenerateRequest,
    types.ScoringRequest: score_pb2.ScoreRequest,
    types.CountRequest: score_pb2.CountTokensRequest,
    types.Completion: reply_pb2.GenerateResponse,
    types.StreamStart: generate_pb2.StreamStart,
    types.Delta: generate_pb2.PartDelta,
    types.Progress: generate_pb2.Progress,
    types.Scoring: score_pb2.ScoreResponse,
    types.TokenCount: score_pb2.CountTokensResponse,
    types.Availability: models_pb2.IsAvailableResponse,
    types.ModelList: models_pb2.ListModelsResponse,
    types.ServiceInfo: service_info_pb2.GetServiceInfoResponse,
    types.CallReport: call_report_pb2.CallReport,
}
REQUEST = GenerationRequest("hf_x", "hi", labels={"a": "b"})


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_values_of_every_dataclass_make_the_round_trip(kind: type[Any]) -> None:
    random = Random(kind.__name__)  # noqa: S311 - the same values in each run
    for _ in range(50):
        value = make(kind, random)
        message = to_message(value, MESSAGES[kind])
        sent = MESSAGES[kind].FromString(message.SerializeToString())
        assert from_message(sent, kind) == value


def test_the_values_have_every_dataclass_and_every_field() -> None:
    """What the test above covers."""
    covered: set[tuple[type, str]] = set()

    def visit(value: Any) -> None:
        if isinstance(value, tuple | list):
            for item in value:
                visit(item)
        elif dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                item = getattr(value, field.name)
                if item != field.default:
                    covered.add((type(value), field.name))
                visit(item)

    for kind in MESSAGES:
        random = Random(kind.__name__)  # noqa: S311
        visit([make(kind, random) for _ in range(50)])
    local = {
        (types.GenerationRequest, "deadline"), (types.Score, "text"),
        *((kind, field.name) for kind in (types.Token, types.Parameter)
          for field in dataclasses.fields(kind)),
    }  # fmt: skip
    every = {
        (kind, field.name)
        for kind in vars(types).values()
        if dataclasses.is_dataclass(kind) and isinstance(kind, type)
        for field in dataclasses.fields(kind)
    }
    assert {(kind.__name__, name) for kind, name in every - covered - local} == set()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (GenerationRequest("hf_x", "hi"), generate_pb2.GenerateRequest),
        (Completion(Message("assistant", ""), FinishReason.UNKNOWN), reply_pb2.GenerateResponse),
        (Availability(False, ModelState.UNKNOWN), models_pb2.IsAvailableResponse),
        # Present, though all that it holds is zero or unset.
        (
            Availability(False, ModelState.READY, credits=Credits(), load=EngineLoad()),
            models_pb2.IsAvailableResponse,
        ),
        (Usage(0, 0, 0, 0, 0, 0, 0), reply_pb2.Usage),
        (Usage(), reply_pb2.Usage),
        (Delta(text=""), generate_pb2.PartDelta),
    ],
)
def test_zero_and_unset_are_different(value: Any, kind: type[ProtoMessage]) -> None:
    assert from_message(to_message(value, kind), type(value)) == value


@pytest.mark.parametrize(
    "constraint",
    [
        Choices(("a",)),
        JsonSchema("{}", "move"),
        Regex("a+"),
        Grammar(GrammarSyntax.LARK, "start: /a/"),
        AnyJsonObject(),
    ],
)
def test_every_constraint_makes_the_round_trip(constraint: Any) -> None:
    request = replace(REQUEST, constraint=constraint)
    message = to_message(request, generate_pb2.GenerateRequest)
    assert message.constraint.WhichOneof("kind") == constraint.kind
    assert from_message(message, GenerationRequest) == request


def test_a_reply_is_a_message_of_the_next_request() -> None:
    call = ToolCall("c1", "move", '{"b":1,"a":2.0}', state=types.ProviderState(b"\x00", "x"))
    reply = Completion(Message("assistant", (Text("thinking"), call)), FinishReason.TOOL_CALLS)
    got = from_message(to_message(reply, reply_pb2.GenerateResponse), Completion)
    history = Conversation(
        (Message("user", "?"), got.message, Message("tool", ToolResult("c1", "done")))
    )
    sent = to_message(GenerationRequest("hf_x", history), generate_pb2.GenerateRequest)
    assert sent.conversation.messages[1].parts[1].state.data == b"\x00"
    assert sent.conversation.messages[1].parts[1].tool_call.arguments == '{"b":1,"a":2.0}'
    assert from_message(sent, GenerationRequest).input == history


def test_a_deadline_is_not_sent() -> None:
    message = to_message(replace(REQUEST, deadline=1.0), generate_pb2.GenerateRequest)
    assert from_message(message, GenerationRequest).deadline is None
    assert from_message(message, GenerationRequest, deadline=2.0).deadline == 2.0


def test_what_is_not_set_is_not_on_the_wire() -> None:
    message = to_message(GenerationRequest("hf_x", "hi"), generate_pb2.GenerateRequest)
    assert (
        message.SerializeToString()
        == generate_pb2.GenerateRequest(model="hf_x", prompt="hi").SerializeToString()
    )


def test_json_keeps_its_order_and_its_numbers() -> None:
    text = '{"b": 3.0, "a": 9007199254740993}'
    sent = to_message(replace(REQUEST, provider_options_json=text), generate_pb2.GenerateRequest)
    got = from_message(sent, GenerationRequest)
    assert got.provider_options_json == text
    assert list(got.provider_options.items()) == [("b", 3.0), ("a", 9007199254740993)]
    assert type(got.provider_options["b"]) is float


def test_values_of_a_newer_contract_are_ignored_in_replies() -> None:
    unknown: Any = 99
    reply = reply_pb2.GenerateResponse(
        finish_reason=unknown,
        enforcement=unknown,
        attempts=[reply_pb2.Attempt(reason=unknown)],
        usage=reply_pb2.Usage(cost_basis=unknown),
        message=content_pb2.Message(
            role=content_pb2.ROLE_ASSISTANT,
            parts=[content_pb2.Part(), content_pb2.Part(text="a")],
        ),
    )
    completion = from_message(reply, Completion)
    assert completion.finish_reason is FinishReason.UNKNOWN
    assert (completion.enforcement, completion.usage.cost_basis) == (None, None)
    assert completion.attempts == (Attempt(),)
    assert completion.message.parts == (Text("a"),)
    answer = models_pb2.IsAvailableResponse(state=unknown, reason=unknown)
    assert from_message(answer, Availability).state is ModelState.UNKNOWN
    assert from_message(answer, Availability).reason == ""
    model = models_pb2.ModelInfo(capabilities=[unknown, models_pb2.CAPABILITY_CHAT])
    assert from_message(model, Model).capabilities == (Capability.CHAT,)
    rate = from_message(models_pb2.Rate(unit=unknown, picousd=1), Rate)
    assert rate.unit is types.PriceUnit.UNKNOWN


def test_unknown_fields_of_replies_are_ignored() -> None:
    # Field 900, a string, beside the fields of this contract, and inside one of them.
    extra = b"\xa2\x38\x01x"
    reply = reply_pb2.GenerateResponse(text="a", usage=reply_pb2.Usage(prompt_tokens=1))
    inner = reply.usage.SerializeToString() + extra
    data = reply.SerializeToString() + extra + b"\x32" + bytes([len(inner)]) + inner
    completion = from_message(reply_pb2.GenerateResponse.FromString(data), Completion)
    assert completion.usage.prompt_tokens == 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": 1}, "model: must be a string, not int"),
        ({"input": 1}, "input: must be a prompt, not int"),
        ({"input": Conversation((1,))},  # type: ignore[arg-type]
         "conversation.messages[0]: needs a Message, not a int"),
        ({"input": Conversation((Message("bot", "x"),))},  # type: ignore[arg-type]
         "conversation.messages[0].role: must be one of system, user, assistant, tool, "
         "not 'bot'"),
        ({"input": Conversation((Message("user", (1,)),))},  # type: ignore[arg-type]
         "conversation.messages[0].parts[0]: must be one of Text, Image, Reasoning, ToolCall, "
         "ToolResult, Refusal, not int"),
        ({"sampling": None}, "config: needs a Sampling, not a NoneType"),
        ({"sampling": Sampling(logit_bias={"a": 1.0})},  # type: ignore[dict-item]
         "config.logit_bias: must map token ids to numbers: 'a' does not"),
        ({"constraint": "a"},
         "constraint: must be one of Choices, JsonSchema, Regex, Grammar, AnyJsonObject, not str"),
        ({"constraint": Choices(("a", 1))},  # type: ignore[arg-type]
         "constraint.choices: must hold strings only: value 1 is int"),
        ({"labels": {"a": 1}}, "labels: must map strings to strings: 'a' does not"),
        ({"session": "\ud800"}, "session: must not hold a lone surrogate: character 0 is one"),
        ({"reasoning": types.ReasoningOptions(types.ReasoningEffort.LOW, 5)},
         "reasoning.budget_tokens: and effort exclude each other: give one"),
    ],
)  # fmt: skip
def test_an_error_names_the_path_of_its_field(change: dict[str, Any], error: str) -> None:
    with pytest.raises(FieldError) as caught:
        to_message(replace(REQUEST, **change), generate_pb2.GenerateRequest)
    assert str(caught.value) == error


def test_a_continuation_is_a_text_or_token_ids() -> None:
    both = ScoringRequest("hf_x", "hi", (Continuation("a", (1,)),))
    with pytest.raises(FieldError, match=r"continuations\[0\]\.token_ids"):
        to_message(both, score_pb2.ScoreRequest)


def test_a_field_on_one_side_only_is_an_error() -> None:
    @dataclass(frozen=True)
    class Less:
        picousd: int

    @dataclass(frozen=True)
    class More(Rate):
        color: int = 0

    with pytest.raises(TypeError, match=r"Less has no field for .*Rate\.unit"):
        to_message(Less(1), models_pb2.Rate)
    with pytest.raises(TypeError, match="Rate has no field 'color' for More"):
        to_message(More(types.PriceUnit.IMAGE, 1), models_pb2.Rate)
