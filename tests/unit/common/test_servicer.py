"""The one servicer: every RPC over a scripted backend, on a real socket."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from arena_llm import AsyncClient
from arena_llm.types import (
    Attempt,
    Availability,
    Completion,
    Conversation,
    CostBasis,
    Delta,
    FinishReason,
    FreePrice,
    GenerationRequest,
    Message,
    Model,
    ModelState,
    PriceTable,
    PriceUnit,
    Progress,
    ProgressState,
    Rate,
    Reasoning,
    ReplicaState,
    Sampling,
    ServedBy,
    Text,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from arena_llm.v1 import REVISION, error_pb2, models_pb2, reply_pb2
from services.common.errors import UpstreamUnavailable
from services.common.fields import PATHS
from services.common.servicer import LlmServicer
from tests.support.scripted import USAGE, ScriptedBackend, scripted, serving
from tests.support.wire import (
    RPCS,
    count_request,
    details,
    failure,
    make_request,
    reason,
    request,
    score_request,
    stub,
)


async def test_a_request_reaches_the_backend_as_domain_types() -> None:
    asked = request(session="game-7", request_id="r-1", labels={"player": "x"})
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
            request_id="r-1",
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


async def test_provider_options_arrive_as_they_were_written() -> None:
    text = '{"b": 3.0, "a": 9007199254740993, "deep": [{"n": 7}]}'
    async with scripted() as (backend, server), stub(server.address) as llm:
        await llm.Generate(request(provider_options_json=text))
    assert backend.history[0].provider_options_json == text


async def test_a_conversation_keeps_its_order_and_roles() -> None:
    messages = (Message("system", "s"), Message("user", "u"))
    async with scripted() as (backend, server), AsyncClient(server.address) as llm:
        await llm.generate("hf_model", messages=messages)
    assert backend.history[0].input == Conversation(messages)
    assert backend.history[0].messages == messages


async def test_a_reply_names_who_answered_its_id_and_its_times() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue("e4", "d4")
        answer = await llm.Generate(request(request_id="r-1"))
        other = await llm.Generate(request())
    assert (answer.text, answer.served_by.backend, answer.served_by.model) == (
        "e4",
        "hf",
        "hf_model",
    )
    assert answer.served_by.service_version
    assert answer.request_id == "r-1"
    assert other.request_id  # made by the service
    assert answer.timings.total_seconds > 0
    assert not answer.timings.HasField("first_token_seconds")  # it came whole


async def test_a_stream_is_start_then_deltas_then_one_completion() -> None:
    deltas = [
        Delta(reasoning="hm", text="e"),
        Delta(text=""),
        Progress(ProgressState.QUEUED, queue_position=2),
        Delta(text="4"),
        Delta(refusal="no"),
        Delta(text="!"),
    ]
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(deltas)
        events = [event async for event in llm.StreamGenerate(request(request_id="r-1"))]
    assert [event.sequence for event in events] == list(range(len(events)))
    assert [event.WhichOneof("event") for event in events] == [
        *("start", "delta", "delta", "progress", "delta", "delta", "delta", "completion"),
    ]
    start, last = events[0].start, events[-1].completion
    assert start.served_by.model == last.served_by.model == "hf_model"
    assert start.request_id == last.request_id == "r-1"
    pieces = [event.delta for event in events if event.HasField("delta")]
    assert [(piece.part, piece.WhichOneof("delta")) for piece in pieces] == [
        (0, "reasoning"),
        (1, "text"),
        (1, "text"),
        (2, "refusal"),
        (3, "text"),
    ]
    assert (last.text, len(last.message.parts)) == ("e4!", 4)
    assert 0 < last.timings.first_token_seconds <= last.timings.total_seconds


async def test_tool_calls_of_a_stream_are_numbered_by_their_ids() -> None:
    calls = (ToolCall("c1", "move", '{"to": 4}'), ToolCall("c2", "look"))
    whole = Completion(Message("assistant", calls), FinishReason.TOOL_CALLS, USAGE)
    pieces = [
        ToolCallDelta("c1", "move"),
        ToolCallDelta(arguments='{"to'),
        ToolCallDelta(arguments='": 4}'),
        ToolCallDelta("c2", "look"),
    ]
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue([*(Delta(tool_call=piece) for piece in pieces), whole])
        events = [event async for event in llm.StreamGenerate(request())]
    sent = [event.delta for event in events if event.HasField("delta")]
    assert [(d.part, d.tool_call.id, d.tool_call.arguments) for d in sent] == [
        (0, "c1", ""),
        (0, "", '{"to'),
        (0, "", '": 4}'),
        (1, "c2", ""),
    ]
    assert events[-1].completion.message.parts[1].tool_call.name == "look"


async def test_score_and_count_tokens() -> None:
    async with scripted() as (_, server), stub(server.address) as llm:
        scored = await llm.Score(score_request(request_id="r-1"))
        counted = await llm.CountTokens(count_request())
    assert (scored.served_by.backend, scored.request_id) == ("hf", "r-1")
    assert (scored.usage.cost_picousd, scored.usage.cost_basis) == (0, reply_pb2.COST_BASIS_FREE)
    assert counted.tokens == 3


async def test_list_models_names_their_backend_and_their_fields() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.models.append(Model("hf_less", supported_fields=("config.seed",)))
        listed = await llm.ListModels(models_pb2.ListModelsRequest())
    assert [(m.name, m.backend) for m in listed.models] == [("hf_model", "hf"), ("hf_less", "hf")]
    whole, less = listed.models
    assert whole.supported_fields == sorted(PATHS)
    assert whole.supported_fields_known
    assert (less.supported_fields, less.supported_fields_known) == (["config.seed"], False)


async def test_list_models_in_pages() -> None:
    async with scripted() as (backend, server), AsyncClient(server.address) as llm:
        backend.models = [Model(f"hf_{number}") for number in range(1_200)]
        listed = await llm.list_models()
        chosen = await llm.list_models("hf_119")
    assert [model.name for model in listed] == [model.name for model in backend.models]
    assert len(chosen) == 11


async def test_service_info() -> None:
    async with scripted() as (_, server), AsyncClient(server.address) as llm:
        info = await llm.service_info()
    assert (info.service, info.contract_revision) == ("hf", REVISION)
    assert info.limits.max_message_bytes > 2**20
    (backend,) = info.backends
    assert (backend.backend, backend.prefixes) == ("hf", ("hf_",))
    assert [replica.state for replica in backend.replicas] == [ReplicaState.SERVING]


@pytest.mark.parametrize("rpc", [*RPCS, "IsAvailable", "ListModels"])
async def test_a_client_of_an_old_contract_is_refused(
    rpc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.common.handlers.MINIMUM_CLIENT_REVISION", 7)
    asked = {
        "IsAvailable": models_pb2.IsAvailableRequest(model="hf_model"),
        "ListModels": models_pb2.ListModelsRequest(),
    }.get(rpc) or make_request(rpc)
    async with scripted() as (_, server), stub(server.address) as llm:
        call = getattr(llm, rpc)
        error = await failure(call(asked, metadata=(("arena-contract", "6"),)))
        for accepted in ((("arena-contract", "7"),), (), (("arena-contract", "new"),)):
            answer = call(asked, metadata=accepted)
            if rpc == "StreamGenerate":
                assert [event async for event in answer]
            else:
                await answer
    assert (error.code().name, reason(error)) == ("FAILED_PRECONDITION", "CLIENT_TOO_OLD")
    info: Any = details(error)["ErrorInfo"]
    assert dict(info.metadata) == {"client_revision": "6", "minimum_client_revision": "7"}


@pytest.mark.parametrize("rpc", RPCS)
async def test_a_model_of_another_backend(rpc: str) -> None:
    asked = make_request(rpc, "vllm_x")
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
        assert (answer.model.name, answer.model.backend) == ("hf_model", "hf")
        assert answer.model.supported_fields_known
        nothing = await failure(llm.IsAvailable(models_pb2.IsAvailableRequest()))
        assert details(nothing)["BadRequest"].field_violations[0].field == "model"  # type: ignore[attr-defined]
        other = await llm.IsAvailable(models_pb2.IsAvailableRequest(model="vllm_x"))
        assert (other.available, other.reason) == (False, error_pb2.ERROR_REASON_MODEL_NOT_FOUND)


async def test_a_prompt_of_5_mb_is_accepted() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        await llm.Generate(request(prompt="x" * 5_000_000))
    assert len(backend.history[0].input) == 5_000_000


class OddBackend(ScriptedBackend):
    """Returns text that protobuf refuses, and impossible numbers."""

    forwards_calls = True  # with False, a cost that is not known is 0

    async def generate_response(self, request: GenerationRequest) -> Completion:
        half = "\ud83d"
        parts = (Reasoning(half), Text(f"a{half}"), ToolCall("c", half, half))
        return Completion(
            Message("assistant", parts),
            FinishReason.STOP,
            Usage(10**23, -1, 3, 2**31, cost_picousd=2**63),
            ServedBy(model=f"hf_{half}", provider=half),
            native_finish_reason=half,
            id=half,
            attempts=(Attempt(half, detail=half),),
            warnings=(half,),
        )

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Progress | Completion, None]:
        yield Delta("a\ud83d", "\ud83d", ToolCallDelta("c", "\ud83d", "\ud83d"))
        yield await self.generate_response(request)


async def test_text_and_numbers_of_a_reply_are_repaired() -> None:
    async with serving(LlmServicer(OddBackend())) as server, stub(server.address) as llm:
        whole = await llm.Generate(request())
        _, *deltas, last = [event async for event in llm.StreamGenerate(request())]
    assert [event.delta.reasoning or event.delta.text for event in deltas] == [
        *("\ufffd", "a\ufffd", ""),
    ]
    for reply in (whole, last.completion):
        call = reply.message.parts[2].tool_call
        texts = [reply.id, reply.native_finish_reason, reply.warnings[0], call.name, call.arguments]
        texts += [reply.attempts[0].provider, reply.attempts[0].detail, reply.served_by.provider]
        assert set(texts) == {"\ufffd"}
        assert (reply.text, reply.served_by.model) == ("a\ufffd", "hf_\ufffd")
        usage = reply.usage
        known = {field.name: value for field, value in usage.ListFields()}
        assert known == {"reasoning_tokens": 3}


@pytest.mark.parametrize("forwards", [False, True])
async def test_the_cost_of_a_model(forwards: bool) -> None:
    """A model that the service runs costs 0; the cost of a model elsewhere is unknown."""
    backend = ScriptedBackend()
    backend.forwards_calls = forwards  # type: ignore[misc]
    cost, basis = (None, None) if forwards else (0, CostBasis.FREE)
    price = None if forwards else FreePrice()
    async with serving(LlmServicer(backend)) as server, AsyncClient(server.address) as llm:
        reply = await llm.generate("hf_model", "hello")
        stream = llm.stream("hf_model", "hello")
        assert [text async for text in stream] == ["ok"]
        for usage in (reply.usage, stream.completion.usage):
            assert (usage.cost_picousd, usage.cost_basis) == (cost, basis)
        (model,) = await llm.list_models()
        available = (await llm.is_available("hf_model")).model
        assert available is not None
        assert model.price == available.price == price
        table = PriceTable((Rate(PriceUnit.PROMPT_TOKEN, 150_000),))
        backend.models = [replace(model, price=table)]
        assert (await llm.list_models())[0].price == table


async def test_the_text_of_an_error_is_repaired() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(
            UpstreamUnavailable("pay \ud83d", retry_after=1e300, metadata={"provider": "\ud83d"})
        )
        error = await failure(llm.Generate(request()))
    assert error.code().name == "UNAVAILABLE"
    assert error.details() == "pay \ufffd"
