"""Calls to all backends: one merged answer, with the backends that could not be reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from arena_llm.types import Availability, Model, ModelState
from arena_llm.v1 import models_pb2
from router.config import Route
from services.common.errors import Overloaded
from tests.support.scripted import hang, scripted
from tests.support.system import refusing
from tests.support.waiting import eventually
from tests.support.wire import failure, reason

LIST = models_pb2.ListModelsRequest()
ALL = models_pb2.IsAvailableRequest()


def ask(model: str) -> models_pb2.IsAvailableRequest:
    return models_pb2.IsAvailableRequest(model=model)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nothing listens."""
    with refusing() as (address,):
        yield address


async def test_lists_are_merged_in_the_order_of_the_routes(routed: Any, nobody: str) -> None:
    down = Route(targets=[nobody], start="make up VLLM=1")
    async with (
        scripted("hf") as (_, hf),
        scripted("litellm") as (_, litellm),
        routed(litellm_=[litellm.address], vllm_=down, hf_=[hf.address]) as llm,
    ):
        listed = await llm.ListModels(LIST)
    assert [(m.name, m.backend) for m in listed.models] == [
        ("litellm_model", "litellm"),
        ("hf_model", "hf"),
    ]
    (missing,) = listed.unreachable
    assert (missing.backend, missing.address) == ("vllm", nobody)
    assert "make up VLLM=1" in missing.detail


async def test_only_models_that_are_routed_to_their_backend_are_listed(routed: Any) -> None:
    async with (
        scripted() as (small, one),
        scripted() as (big, two),
        routed(hf_=[one.address], **{"hf_big-": [two.address]}) as llm,
    ):
        small.models = [Model("hf_a"), Model("hf_big-b")]
        big.models = [Model("hf_a"), Model("hf_big-b")]
        listed = await llm.ListModels(LIST)
    assert [m.name for m in listed.models] == ["hf_a", "hf_big-b"]


async def test_a_hanging_backend_delays_the_answer_by_ask_timeout_only(routed: Any) -> None:
    async with (
        scripted("hf") as (_, hf),
        scripted("vllm") as (hung, vllm),
        routed(ask_timeout_seconds=0.3, vllm_=[vllm.address], hf_=[hf.address]) as llm,
    ):
        await llm.ListModels(LIST)  # connected
        hung.enqueue(hang)
        listed = await llm.ListModels(LIST)
        assert [m.name for m in listed.models] == ["hf_model"]
        assert "did not answer in time" in listed.unreachable[0].detail


async def test_with_a_short_deadline_the_caller_gets_a_partial_answer(routed: Any) -> None:
    async with (
        scripted("hf") as (_, hf),
        scripted("vllm") as (hung, vllm),
        routed(ask_timeout_seconds=60, vllm_=[vllm.address], hf_=[hf.address]) as llm,
    ):
        await llm.ListModels(LIST)  # connected
        hung.enqueue(hang)
        listed = await llm.ListModels(LIST, timeout=2)
    assert [m.name for m in listed.models] == ["hf_model"]
    assert [u.backend for u in listed.unreachable] == ["vllm"]


async def test_a_backend_that_answers_with_an_error_is_listed_with_it(routed: Any) -> None:
    async with scripted() as (backend, hf), routed(hf_=[hf.address]) as llm:
        backend.enqueue(Overloaded("the queue is full"))
        (missing,) = (await llm.ListModels(LIST)).unreachable
    assert missing.detail == "backend hf answered RESOURCE_EXHAUSTED: the queue is full"


async def test_all_backends_are_called_at_the_same_time(routed: Any) -> None:
    async with (
        scripted("hf") as (one, hf),
        scripted("vllm") as (two, vllm),
        routed(hf_=[hf.address], vllm_=[vllm.address]) as llm,
    ):
        met: list[str] = []

        def meet(name: str) -> Any:
            async def step() -> str:
                met.append(name)
                await eventually(lambda: len(met) == 2)
                return name

            return step

        one.enqueue(meet("hf"))
        two.enqueue(meet("vllm"))
        assert not (await llm.ListModels(LIST)).unreachable


@pytest.mark.parametrize(
    ("up", "available", "state", "why"),
    [(True, True, "READY", ""), (False, False, "UNKNOWN", "BACKEND_DOWN")],
)
async def test_availability_of_all(
    up: bool, available: bool, state: str, why: str, routed: Any, nobody: str
) -> None:
    async with (
        scripted() as (_, hf),
        routed(hf_=[hf.address if up else nobody], vllm_=[nobody]) as llm,
    ):
        answer = await llm.IsAvailable(ALL)
    assert (answer.available, answer.reason) == (available, why)
    assert answer.state == models_pb2.ModelState.Value(f"MODEL_STATE_{state}")
    assert [u.backend for u in answer.unreachable] == (["vllm"] if up else ["hf", "vllm"])
    assert answer.detail.startswith("1 of 2 backends answer (hf)" if up else "0 of 2")


async def test_availability_of_a_model_is_its_backends_answer(routed: Any) -> None:
    async with scripted() as (backend, hf), routed(hf_=[hf.address]) as llm:
        backend.availability = Availability(False, ModelState.LOADING, "half way", ("low",))
        answer = await llm.IsAvailable(ask("hf_model"))
        assert (answer.available, answer.detail, answer.warnings) == (False, "half way", ["low"])
        assert answer.state == models_pb2.MODEL_STATE_LOADING
        backend.enqueue(Overloaded("full"))
        assert reason(await failure(llm.IsAvailable(ask("hf_model")))) == "OVERLOADED"


async def test_a_model_whose_backend_is_down(routed: Any, nobody: str) -> None:
    route = Route(targets=[nobody], start="make up VLLM=1")
    async with routed(vllm_=route) as llm:
        answer = await llm.IsAvailable(ask("vllm_x"))
    assert (answer.available, answer.reason) == (False, "BACKEND_DOWN")
    assert answer.state == models_pb2.MODEL_STATE_UNKNOWN
    for word in ("vllm", nobody, "make up VLLM=1"):
        assert word in answer.detail


async def test_a_model_whose_backend_hangs(routed: Any) -> None:
    async with (
        scripted() as (backend, hf),
        routed(ask_timeout_seconds=0.3, hf_=[hf.address]) as llm,
    ):
        backend.enqueue(hang)
        answer = await llm.IsAvailable(ask("hf_model"))
    assert (answer.available, answer.reason) == (False, "BACKEND_DOWN")
    assert "did not answer in time" in answer.detail


async def test_a_model_with_an_unknown_prefix(routed: Any, nobody: str) -> None:
    async with routed(hf_=[nobody]) as llm:
        answer = await llm.IsAvailable(ask("gpt2"))
    assert (answer.available, answer.reason) == (False, "UNKNOWN_PREFIX")
    assert answer.state == models_pb2.MODEL_STATE_MISCONFIGURED
    assert "hf_" in answer.detail
