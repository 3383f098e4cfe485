"""The mapper between dataclasses and messages."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from google.protobuf.message import Message as ProtoMessage

from arena_llm.types import (
    Availability,
    Capability,
    Choices,
    Completion,
    Credits,
    EngineLoad,
    FinishReason,
    GenerationRequest,
    JsonSchema,
    Message,
    Model,
    ModelList,
    ModelState,
    Price,
    Regex,
    Sampling,
    Score,
    Scoring,
    ScoringRequest,
    Timings,
    TokenLogprob,
    TopLogprob,
    UnreachableBackend,
    Usage,
)
from arena_llm.v1 import generate_pb2, models_pb2, score_pb2
from arena_llm.wire import FieldError, from_message, to_message

USAGE = Usage(1, 2, 3, 4, 0.5)
UNREACHABLE = UnreachableBackend("hf", "127.0.0.1:1", "start it")


@dataclass(frozen=True)
class Bound:
    """A dataclass whose field is the oneof of its message."""

    kind: Choices | JsonSchema | Regex


#: A value of each dataclass with all fields set, and its message.
FULL: list[tuple[Any, type[ProtoMessage]]] = [
    (
        GenerationRequest(
            model="hf_x",
            input="hi",
            sampling=Sampling(0.5, 0.9, 40, 5, 2**40, ("a", "b"), -1.0, 1.0, 3),
            constraint=Choices(("0", "4")),
            session="game",
            labels={"experiment": "e"},
            provider_options={"n": 3, "x": 1.5, "deep": {"list": [1, None, "a", True]}},
        ),
        generate_pb2.GenerateRequest,
    ),
    (
        ScoringRequest("hf_x", (Message("user", "u"),), (" a", " b"), "game", {"a": "b"}),
        score_pb2.ScoreRequest,
    ),
    (
        Completion(
            text="t",
            finish_reason=FinishReason.CONTENT_FILTER,
            usage=USAGE,
            model="hf_x",
            backend="hf",
            reasoning="r",
            id="i",
            timings=Timings(1.0, 2.0, 3.0),
            logprobs=(TokenLogprob("t", -0.5, (TopLogprob("u", -1.0),)),),
            attempts=2,
        ),
        generate_pb2.GenerateResponse,
    ),
    (Scoring((Score("a", -1.0, 2),), USAGE, "hf_x", "hf"), score_pb2.ScoreResponse),
    (
        Availability(
            available=True,
            state=ModelState.LOADING,
            detail="d",
            warnings=("w",),
            credits=Credits(1.0, 2.0),
            load=EngineLoad(1, 2, 3),
            reason="R",
            unreachable=(UNREACHABLE,),
            price=Price(1e-6, 2e-6),
        ),
        models_pb2.IsAvailableResponse,
    ),
    (
        ModelList(
            (Model("hf_x", "hf", "d", 1024, tuple(Capability), Price(1e-6, 2e-6)),), (UNREACHABLE,)
        ),
        models_pb2.ListModelsResponse,
    ),
]
REQUEST = FULL[0][0]


@pytest.mark.parametrize(("value", "kind"), FULL, ids=[type(v).__name__ for v, _ in FULL])
def test_every_field_makes_the_round_trip(value: Any, kind: type[ProtoMessage]) -> None:
    message = to_message(value, kind)
    for field in fields(value):
        if field.name != "deadline":
            assert getattr(value, field.name), f"{field.name} is not tested: give it a value"
    assert from_message(message, type(value)) == value
    assert from_message(kind.FromString(message.SerializeToString()), type(value)) == value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (GenerationRequest("hf_x", "hi"), generate_pb2.GenerateRequest),
        (Completion("", FinishReason.UNKNOWN, Usage(), ""), generate_pb2.GenerateResponse),
        (Availability(False, ModelState.UNKNOWN), models_pb2.IsAvailableResponse),
        # Present, though all that it holds is zero or unset.
        (
            Availability(False, ModelState.READY, credits=Credits(), load=EngineLoad()),
            models_pb2.IsAvailableResponse,
        ),
        (ModelList((Model("hf_x"),)), models_pb2.ListModelsResponse),
    ],
)
def test_defaults_make_the_round_trip(value: Any, kind: type[ProtoMessage]) -> None:
    assert from_message(to_message(value, kind), type(value)) == value


@pytest.mark.parametrize("constraint", [Choices(("a",)), JsonSchema("{}"), Regex("a+")])
def test_every_constraint_makes_the_round_trip(constraint: Any) -> None:
    request = replace(REQUEST, constraint=constraint)
    message = to_message(request, generate_pb2.GenerateRequest)
    assert message.constraint.WhichOneof("kind") == constraint.name
    assert from_message(message, GenerationRequest) == request


def test_a_deadline_is_not_sent() -> None:
    message = to_message(replace(REQUEST, deadline=1.0), generate_pb2.GenerateRequest)
    assert from_message(message, GenerationRequest).deadline is None
    assert from_message(message, GenerationRequest, deadline=2.0).deadline == 2.0


def test_what_is_not_set_is_not_on_the_wire() -> None:
    message = to_message(GenerationRequest("hf_x", "hi"), generate_pb2.GenerateRequest)
    assert message == generate_pb2.GenerateRequest(model="hf_x", prompt="hi")


def test_values_of_a_newer_contract() -> None:
    reply = generate_pb2.GenerateResponse(finish_reason=99)  # type: ignore[arg-type]
    assert from_message(reply, Completion).finish_reason is FinishReason.UNKNOWN
    answer = models_pb2.IsAvailableResponse(state=99)  # type: ignore[arg-type]
    assert from_message(answer, Availability).state is ModelState.UNKNOWN
    model = models_pb2.ModelInfo(capabilities=[99, models_pb2.CAPABILITY_CHAT])  # type: ignore[list-item]
    assert from_message(model, Model).capabilities == (Capability.CHAT,)


def test_whole_numbers_of_provider_options_are_integers() -> None:
    request = replace(REQUEST, provider_options={"n": 3.0, "big": 2.0**60})
    message = to_message(request, generate_pb2.GenerateRequest)
    options = from_message(message, GenerationRequest).provider_options
    assert {name: type(value) for name, value in options.items()} == {"n": int, "big": float}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": 1}, "model: must be a string, not int"),
        ({"input": (1,)},
         "conversation.messages[0].role: needs a Message, not a int"),
        ({"input": (Message("bot", "x"),)},  # type: ignore[arg-type]
         "conversation.messages[0].role: must be one of system, user, assistant, not 'bot'"),
        ({"sampling": None}, "config.temperature: needs a Sampling, not a NoneType"),
        ({"constraint": "a"}, "constraint: must be one of Choices, JsonSchema, Regex, not str"),
        ({"constraint": Choices(("a", 1))},  # type: ignore[arg-type]
         "constraint.choices: must hold strings only: value 1 is int"),
        ({"labels": {"a": 1}}, "labels: must map strings to strings: 'a' does not"),
        ({"session": "\ud800"}, "session: must not hold a lone surrogate: character 0 is one"),
    ],
)  # fmt: skip
def test_an_error_names_the_path_of_its_field(change: dict[str, Any], error: str) -> None:
    with pytest.raises(FieldError) as caught:
        to_message(replace(REQUEST, **change), generate_pb2.GenerateRequest)
    assert str(caught.value) == error


def test_a_oneof_beside_other_fields() -> None:
    for kind in (Choices(("a",)), JsonSchema("{}"), Regex("a+")):
        message = to_message(Bound(kind), generate_pb2.Constraint)
        assert message.WhichOneof("kind") == kind.name
        assert from_message(message, Bound) == Bound(kind)


def test_a_field_on_one_side_only_is_an_error() -> None:
    @dataclass(frozen=True)
    class Less:
        token: str

    @dataclass(frozen=True)
    class More(TopLogprob):
        rank: int

    with pytest.raises(TypeError, match=r"Less has no field for .*TopLogprob\.logprob"):
        to_message(Less("a"), generate_pb2.TopLogprob)
    with pytest.raises(TypeError, match="TopLogprob has no field 'rank' for More"):
        to_message(More("a", 1.0, 1), generate_pb2.TopLogprob)
