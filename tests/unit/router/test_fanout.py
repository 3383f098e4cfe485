"""Calls to all backends: one merged answer, with the backends that could not be reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from arena_llm.types import Availability, Model, ModelState, ReplicaState, ServiceInfo
from arena_llm.v1 import REVISION, error_pb2, models_pb2, service_info_pb2
from arena_llm.wire import from_message
from router.config import Route
from services.common.config import ServiceConfig
from services.common.errors import Overloaded
from services.common.pages import LARGEST_PAGE
from services.common.servicer import LlmServicer
from tests.support.ports import refusing
from tests.support.scripted import ScriptedBackend, hang, scripted, serving
from tests.support.waiting import eventually
from tests.support.wire import details, failure, reason

LIST = models_pb2.ListModelsRequest()


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
    assert (missing.backend, list(missing.addresses)) == ("vllm", [nobody])
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


async def test_a_backends_pages_are_joined_and_the_merged_list_is_paged(routed: Any) -> None:
    async with (
        scripted("hf") as (small, hf),
        scripted("vllm") as (large, vllm),
        routed(hf_=[hf.address], vllm_=[vllm.address]) as llm,
    ):
        small.models = [Model(f"hf_{number}") for number in range(3)]
        large.models = [Model(f"vllm_{number}") for number in range(2 * LARGEST_PAGE + 1)]
        names: list[str] = []
        asked = models_pb2.ListModelsRequest(page_size=700)
        sizes = []
        while not sizes or asked.page_token:
            page = await llm.ListModels(asked)
            sizes.append(len(page.models))
            names += [model.name for model in page.models]
            asked.page_token = page.next_page_token
        only = models_pb2.ListModelsRequest(name_prefix="vllm_2000")
        chosen = [model.name for model in (await llm.ListModels(only)).models]
    assert sizes == [700, 700, 604]
    assert names == [model.name for model in (*small.models, *large.models)]
    assert chosen == ["vllm_2000"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (models_pb2.ListModelsRequest(page_size=-1), "page_size"),
        (models_pb2.ListModelsRequest(page_token="mine"), "page_token"),  # noqa: S106 - not a password
    ],
)
async def test_a_wrong_page_is_refused(
    asked: models_pb2.ListModelsRequest, field: str, routed: Any
) -> None:
    async with scripted() as (_, hf), routed(hf_=[hf.address]) as llm:
        error = await failure(llm.ListModels(asked))
    assert details(error)["BadRequest"].field_violations[0].field == field


async def test_service_info_has_each_replica(routed: Any, nobody: str) -> None:
    async with (
        scripted("hf") as (_, one),
        scripted("hf") as (_, two),
        scripted("vllm") as (_, named),
        routed(hf_=[one.address, nobody, two.address], vllm_=[f"localhost:{named.port}"]) as llm,
    ):
        info = from_message(
            await llm.GetServiceInfo(service_info_pb2.GetServiceInfoRequest()), ServiceInfo
        )
    assert (info.service, info.contract_revision) == ("router", REVISION)
    hf, vllm = info.backends
    assert [(b.backend, b.prefixes) for b in info.backends] == [
        ("hf", ("hf_",)),
        ("vllm", ("vllm_",)),
    ]
    assert [replica.address for replica in hf.replicas] == [one.address, nobody, two.address]
    up, down, other = hf.replicas
    assert up.state is other.state is ReplicaState.SERVING
    assert (up.software_version, up.contract_revision) == (info.software_version, REVISION)
    assert down.state is ReplicaState.UNREACHABLE
    assert "refused" in down.detail
    # Every address of the name is a replica, whether something listens there or not.
    assert f"127.0.0.1:{named.port}" in [
        replica.address for replica in vllm.replicas if replica.state is ReplicaState.SERVING
    ]


async def test_service_info_has_the_limits_of_each_backend(routed: Any, nobody: str) -> None:
    """The router itself remembers no request_id: it reports the shortest time of its backends."""
    backends = [ScriptedBackend(name) for name in ("hf", "vllm")]
    for backend, seconds in zip(backends, (40, 7.5), strict=True):
        backend.config = ServiceConfig(listen="127.0.0.1:0", request_id_seconds=seconds)
    hf, vllm = map(LlmServicer, backends)
    async with (
        serving(hf) as one,
        serving(vllm) as two,
        routed(hf_=[one.address], vllm_=[two.address], litellm_=[nobody]) as llm,
    ):
        info = from_message(
            await llm.GetServiceInfo(service_info_pb2.GetServiceInfoRequest()), ServiceInfo
        )
    times = [backend.limits and backend.limits.request_id_seconds for backend in info.backends]
    assert times == [40, 8, None]
    assert info.limits.request_id_seconds == 8


async def test_service_info_of_a_backend_without_that_method(routed: Any) -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with routed(hf_=[f"127.0.0.1:{port}"], vllm_=["nowhere.invalid:1"]) as llm:
        info = from_message(
            await llm.GetServiceInfo(service_info_pb2.GetServiceInfoRequest()), ServiceInfo
        )
    await server.stop(None)
    (old,), (nowhere,) = (backend.replicas for backend in info.backends)
    assert old.state is ReplicaState.UNKNOWN
    assert "UNIMPLEMENTED" in old.detail
    assert (nowhere.address, nowhere.state) == ("nowhere.invalid:1", ReplicaState.UNREACHABLE)


async def test_availability_needs_a_model(routed: Any, nobody: str) -> None:
    async with routed(hf_=[nobody]) as llm:
        error = await failure(llm.IsAvailable(models_pb2.IsAvailableRequest()))
    assert details(error)["BadRequest"].field_violations[0].field == "model"


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
    assert (answer.available, answer.reason) == (False, error_pb2.ERROR_REASON_BACKEND_DOWN)
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
    assert (answer.available, answer.reason) == (False, error_pb2.ERROR_REASON_BACKEND_DOWN)
    assert "did not answer in time" in answer.detail


async def test_a_model_with_an_unknown_prefix(routed: Any, nobody: str) -> None:
    async with routed(hf_=[nobody]) as llm:
        answer = await llm.IsAvailable(ask("gpt2"))
    assert (answer.available, answer.reason) == (False, error_pb2.ERROR_REASON_UNKNOWN_PREFIX)
    assert answer.state == models_pb2.MODEL_STATE_MISCONFIGURED
    assert "hf_" in answer.detail
