"""The one servicer: five RPCs over a scripted backend, on a real socket."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import structlog

from arena_llm import AsyncClient
from arena_llm.types import (
    SAMPLING_PARAMETERS,
    Availability,
    Completion,
    Delta,
    FinishReason,
    GenerationRequest,
    Message,
    Model,
    ModelState,
    Price,
    Sampling,
    Score,
    Scoring,
    ScoringRequest,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from arena_llm.v1 import generate_pb2, models_pb2
from services.common.errors import UpstreamUnavailable
from services.common.servicer import LlmServicer
from tests.support.scripted import ScriptedBackend, scripted, serving
from tests.support.wire import details, failure, reason, request, score_request, stub


async def test_a_request_reaches_the_backend_as_domain_types() -> None:
    asked = request(session="game-7", labels={"player": "x"})
    asked.config.temperature = 0
    asked.config.stop.append("\n")
    async with scripted() as (backend, server), stub(server.address) as llm:
        await llm.Generate(asked)
    assert backend.history == [
        GenerationRequest(
            model="hf_model",
            input="hello",
            sampling=Sampling(temperature=0.0, stop=("\n",)),
            session="game-7",
            labels={"player": "x"},
        )
    ]


async def test_a_request_has_the_callers_deadline() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        begun = time.monotonic()
        await llm.Generate(request(), timeout=500)
        ended = time.monotonic()
        await llm.Generate(request())
    timed, untimed = backend.history
    assert begun + 499 < timed.deadline < ended + 501  # gRPC rounds up
    assert untimed.deadline is None


async def test_provider_options_arrive_with_their_integers() -> None:
    asked = request()
    asked.provider_options.update({"top": 3, "share": 0.5, "deep": [{"n": 7}], "on": True})
    async with scripted() as (backend, server), stub(server.address) as llm:
        await llm.Generate(asked)
    got = backend.history[0].provider_options
    assert got == {"top": 3, "share": 0.5, "deep": [{"n": 7}], "on": True}
    assert [type(got["top"]), type(got["deep"][0]["n"])] == [int, int]


async def test_a_conversation_keeps_its_order_and_roles() -> None:
    asked = generate_pb2.GenerateRequest(model="hf_model")
    for role, content in ((generate_pb2.ROLE_SYSTEM, "s"), (generate_pb2.ROLE_USER, "u")):
        asked.conversation.messages.add(role=role, content=content)
    async with scripted() as (backend, server), stub(server.address) as llm:
        await llm.Generate(asked)
    assert backend.history[0].input == (Message("system", "s"), Message("user", "u"))


async def test_a_reply_has_its_backend_and_its_times() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue("e4")
        answer = await llm.Generate(request())
    assert (answer.text, answer.backend, answer.model) == ("e4", "hf", "hf_model")
    assert answer.timings.total_seconds > 0


async def test_a_stream_is_deltas_then_one_completion() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue([Delta(reasoning="hm", text="e"), Delta(text=""), Delta(text="4")])
        events = [event async for event in llm.StreamGenerate(request())]
    assert [event.WhichOneof("event") for event in events] == [
        "reasoning_delta",
        "text_delta",
        "text_delta",
        "completion",
    ]
    assert events[-1].completion.text == "e4"
    assert events[-1].completion.backend == "hf"


async def test_score_names_its_backend() -> None:
    async with scripted() as (_, server), stub(server.address) as llm:
        assert (await llm.Score(score_request())).backend == "hf"


async def test_list_models_names_their_backend() -> None:
    async with scripted() as (_, server), stub(server.address) as llm:
        listed = await llm.ListModels(models_pb2.ListModelsRequest())
    assert [(m.name, m.backend) for m in listed.models] == [("hf_model", "hf")]


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate", "Score"])
async def test_a_model_of_another_backend(rpc: str) -> None:
    asked = score_request("vllm_x") if rpc == "Score" else request("vllm_x")
    async with scripted() as (backend, server), stub(server.address) as llm:
        error = await failure(getattr(llm, rpc)(asked))
    assert error.code().name == "NOT_FOUND"
    assert reason(error) == "MODEL_NOT_FOUND"
    assert details(error)["BadRequest"].field_violations[0].field == "model"
    assert "hf_" in error.details()
    assert backend.history == []


async def test_is_available() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.availability = Availability(False, ModelState.LOADING, "half way")
        answer = await llm.IsAvailable(models_pb2.IsAvailableRequest(model="hf_model"))
        assert (answer.state, answer.detail) == (models_pb2.MODEL_STATE_LOADING, "half way")
        itself = await llm.IsAvailable(models_pb2.IsAvailableRequest())
        assert itself.available
        other = await llm.IsAvailable(models_pb2.IsAvailableRequest(model="vllm_x"))
        assert (other.available, other.reason) == (False, "MODEL_NOT_FOUND")


async def test_a_prompt_of_5_mb_is_accepted() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        await llm.Generate(request(prompt="x" * 5_000_000))
    assert len(backend.history[0].input) == 5_000_000


class OddBackend(ScriptedBackend):
    """Returns text that protobuf refuses, and impossible numbers."""

    forwards_calls = True  # with False, a cost that is not known is 0

    async def generate_response(self, request: GenerationRequest) -> Completion:
        half = "\ud83d"
        return Completion(
            text=f"a{half}",
            reasoning=half,
            finish_reason=FinishReason.STOP,
            usage=Usage(10**23, -1, 3, 2**31, math.nan),
            model=f"hf_{half}",
            id=half,
            logprobs=(TokenLogprob(half, -0.5, (TopLogprob(half, -0.5),)),),
        )

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Completion, None]:
        yield Delta("a\ud83d", "\ud83d")
        yield await self.generate_response(request)


async def test_text_and_numbers_of_a_reply_are_repaired() -> None:
    async with serving(LlmServicer(OddBackend())) as server, stub(server.address) as llm:
        asked = request(config={"logprobs": 1})
        whole = await llm.Generate(asked)
        *deltas, last = [event async for event in llm.StreamGenerate(asked)]
    assert [delta.reasoning_delta or delta.text_delta for delta in deltas] == ["\ufffd", "a\ufffd"]
    for reply in (whole, last.completion):
        texts = (reply.text, reply.reasoning, reply.model, reply.id, reply.logprobs[0].top[0].token)
        assert texts == ("a\ufffd", "\ufffd", "hf_\ufffd", "\ufffd", "\ufffd")
        usage = reply.usage
        assert (usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens) == (0, 0, 3)
        assert not usage.HasField("cost_usd")


@pytest.mark.parametrize(("forwards", "cost"), [(False, 0.0), (True, None)])
async def test_the_cost_of_a_model(forwards: bool, cost: float | None) -> None:
    """A model that the service runs costs 0; the cost of a model elsewhere is unknown."""
    backend = ScriptedBackend()
    backend.forwards_calls = forwards  # type: ignore[misc]
    price = None if cost is None else Price(cost, cost)
    async with serving(LlmServicer(backend)) as server, AsyncClient(server.address) as llm:
        reply = await llm.generate("hf_model", "hello")
        stream = llm.stream("hf_model", "hello")
        assert [text async for text in stream] == ["ok"]
        assert reply.usage.cost_usd == stream.completion.usage.cost_usd == cost
        (model,) = await llm.list_models()
        assert model.price == (await llm.is_available("hf_model")).price == price
        backend.models = [replace(model, price=Price(1.0, 2.0))]
        assert (await llm.list_models())[0].price == Price(1.0, 2.0)


async def test_the_text_of_an_error_is_repaired() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(
            UpstreamUnavailable("pay \ud83d", retry_after=1e300, metadata={"provider": "\ud83d"})
        )
        error = await failure(llm.Generate(request()))
    assert error.code().name == "UNAVAILABLE"
    assert error.details() == "pay \ufffd"


class RefusingBackend(ScriptedBackend):
    """Honours temperature and choices only."""

    parameters = frozenset({"temperature"})
    constraints = frozenset({"choices"})
    takes_provider_options = False
    can_score = False
    refused: ClassVar[Mapping[str, str]] = {"constraint.regex": "use choices"}


@pytest.mark.parametrize(
    ("over", "field"),
    [
        *(
            ({"config": {name: [value] if name == "stop" else value}}, f"config.{name}")
            for name, value in {
                **{name: 1 for name in SAMPLING_PARAMETERS if name != "temperature"},
                "stop": "a",
            }.items()
        ),
        ({"constraint": {"regex": "a"}}, "constraint.regex"),
        ({"constraint": {"json_schema": "{}"}}, "constraint.json_schema"),
        ({"provider_options": {"a": 1}}, "provider_options"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_what_a_backend_does_not_honour_is_refused_by_name(
    rpc: str, over: dict[str, Any], field: str
) -> None:
    backend = RefusingBackend()
    async with serving(LlmServicer(backend)) as server, stub(server.address) as llm:
        error = await failure(getattr(llm, rpc)(request(**over)))
    assert (error.code().name, reason(error)) == ("UNIMPLEMENTED", "UNSUPPORTED")
    assert details(error)["BadRequest"].field_violations[0].field == field
    assert field in error.details()
    assert backend.history == []


async def test_what_a_backend_honours_reaches_it() -> None:
    backend = RefusingBackend()
    backend.enqueue("b")
    async with serving(LlmServicer(backend)) as server, stub(server.address) as llm:
        await llm.Generate(
            request(config={"temperature": 0.5}, constraint={"choices": {"values": ["a", "b"]}})
        )
        error = await failure(llm.Score(score_request()))
        refused = await failure(llm.Generate(request(constraint={"regex": "a"})))
    assert backend.history[0].sampling == Sampling(temperature=0.5)
    assert reason(error) == "UNSUPPORTED"
    assert "use choices" in refused.details()


GOOD = Completion("a", FinishReason.STOP, Usage(1, 1), "hf_model")

#: What a backend returns, the request, and a part of the error that its author reads.
BROKEN: dict[str, tuple[Any, dict[str, Any], str]] = {
    "another type": ({"text": "a"}, {}, "returned a dict, not"),
    "a model without the prefix": (replace(GOOD, model="model"), {}, "does not start with 'hf_'"),
    "none of the choices": (
        GOOD,
        {"constraint": {"choices": {"values": ["b", "c"]}}},
        "not one of the choices",
    ),
    "a choice and more": (
        replace(GOOD, text="b\n"),
        {"constraint": {"choices": {"values": ["b", "c"]}}},
        "not one of the choices",
    ),
    "no JSON": (GOOD, {"constraint": {"json_schema": "{}"}}, "not JSON"),
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
    ) -> AsyncGenerator[Delta | Completion, None]:
        for reply in self.replies:
            yield reply

    async def score(self, request: ScoringRequest) -> Scoring:
        return self.replies[0]  # type: ignore[no-any-return]

    async def is_model_available(self, model: str) -> Availability:
        return self.replies[0]  # type: ignore[no-any-return]

    async def get_available_models(self) -> Sequence[Model]:
        return self.replies


async def check_broken(rpc: str, asked: Any, backend: BrokenBackend, problem: str) -> None:
    """The caller gets INTERNAL with the problem, and the log has it too."""
    with structlog.testing.capture_logs() as log:
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
    deltas = [Delta(reply.text)] if isinstance(reply, Completion) else []
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
        ("Score", [Scoring((), Usage(), "hf_model")], "not those of the continuations"),
        ("Score", [Scoring((Score("b", -1, 1),), Usage(), "m")], "not those of the continuations"),
        ("Score", [Scoring((Score("a", math.nan, 1),), Usage(), "m")], "NaN"),
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
    assert details(error)["ErrorInfo"].metadata["completion_tokens"] == "1"


async def test_log_probabilities_come_only_if_requested() -> None:
    backend = BrokenBackend(replace(GOOD, logprobs=(TokenLogprob("a", -1.0),)))
    async with serving(LlmServicer(backend)) as server, stub(server.address) as llm:
        assert not (await llm.Generate(request())).logprobs
        asked = await llm.Generate(request(config={"logprobs": 0}))
    assert [logprob.token for logprob in asked.logprobs] == ["a"]
