"""A replica is lost: who answers then, and where the lost attempt is in the bill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from arena_llm.types import (
    Attempt,
    Availability,
    CallReport,
    CostBasis,
    Delta,
    FreePrice,
    Model,
    ModelState,
    Price,
    PriceTable,
    PriceUnit,
    Progress,
    Rate,
    Usage,
)
from arena_llm.v1 import error_pb2, generate_pb2, models_pb2
from arena_llm.wire import to_message
from router.costs import estimate_left
from router.usage import UsageBook
from services.common import errors
from services.common.servicer import LlmServicer
from tests.support.scripted import ScriptedBackend, completion, hang, scripted, serving
from tests.support.waiting import eventually
from tests.support.wire import details, failure, read_completion, reason, request

TOKEN = "arena-alice-secret"  # noqa: S105 - of this test
RPCS = pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
#: 10^6 * 10^-12 dollars for a token: a dollar for a million.
PRICE = PriceTable((Rate(PriceUnit.PROMPT_TOKEN, 10**6), Rate(PriceUnit.COMPLETION_TOKEN, 10**6)))
#: The router bounds the cost of a lost attempt by the price of this many tokens and its prompt.
LIMIT = {"config": {"max_tokens": 10}}
OTHERS = {"fallback_models": {"names": ["b_model"]}}
PAID = CallReport(attempts=(Attempt("p", "u", 503, cost_picousd=7),), usage=Usage(cost_picousd=7))


class Death(errors.BackendError):
    """The service ends here."""


class Mortal(LlmServicer):
    """A service that sends nothing of a Death, as if its process were killed."""

    async def Generate(self, data: bytes, context: Any) -> bytes:
        return await super().Generate(data, _Context(context))

    async def StreamGenerate(self, data: bytes, context: Any) -> AsyncIterator[bytes]:
        async for message in super().StreamGenerate(data, _Context(context)):
            if not generate_pb2.StreamGenerateResponse.FromString(message).HasField("interruption"):
                yield message


class _Context:
    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort(self, code: grpc.StatusCode, message: str, trailers: Any) -> None:
        if message == "death":
            await self._context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        await self._context.abort(code, message, trailers)


class HostedBackend(ScriptedBackend):
    """Costs money."""

    forwards_calls = True


class House(NamedTuple):
    """A router in front of the replicas of a hosted service, and of a local service."""

    llm: Any
    backend: ScriptedBackend
    local: ScriptedBackend

    def call(self, rpc: str, **fields: Any) -> Any:
        metadata = (("authorization", f"Bearer {TOKEN}"),)
        return getattr(self.llm, rpc)(request("a_model", **LIMIT, **fields), metadata=metadata)

    def call_late(self, rpc: str) -> Any:
        """A call whose deadline passes."""
        metadata = (("authorization", f"Bearer {TOKEN}"),)
        message = request("a_model", **LIMIT)
        return getattr(self.llm, rpc)(message, metadata=metadata, timeout=0.5)

    async def ask(self, rpc: str, **fields: Any) -> Any:
        """Return the completion of a call."""
        call = self.call(rpc, **fields)
        return await read_completion(call, rpc)

    async def fail(self, rpc: str, **fields: Any) -> Any:
        return await failure(self.call(rpc, **fields))


@asynccontextmanager
async def _house(
    routed: Any,
    host: str = "localhost",
    price: Price | None = PRICE,
    settings: Mapping[str, Any] | None = None,
) -> AsyncIterator[House]:
    """host: a name may have several replicas, and an address is one. They share a script.

    settings: of the router.
    """
    backend = HostedBackend("a")
    model = Model("a_model", price=price)
    backend.availability = Availability(True, ModelState.READY, model=model)
    async with (
        serving(Mortal(backend)) as server,
        scripted("b") as (local, local_server),
        routed(a_=[f"{host}:{server.port}"], b_=[local_server.address], settings=settings) as llm,
    ):
        yield House(llm, backend, local)


@pytest.fixture
async def house(routed: Any) -> AsyncIterator[House]:
    async with _house(routed) as made:
        yield made


def death(rpc: str) -> Any:
    """A step that kills the replica before a token has come."""
    return Death("death") if rpc == "Generate" else [Progress(), Death("death")]


def answer(rpc: str) -> Any:
    usage = Usage(3, 1, cost_picousd=30, cost_basis=CostBasis.BILLED)
    attempts = (Attempt("q", "v", 200, cost_picousd=30),)
    whole = replace(completion("e4"), usage=usage, attempts=attempts)
    return whole if rpc == "Generate" else [Delta(text="e4"), whole]


def is_lost(attempt: Any) -> bool:
    """Whether an attempt was lost: what it cost is not known, but its most is."""
    lost = attempt.reason == error_pb2.ERROR_REASON_BACKEND_DOWN
    assert lost == attempt.HasField("max_cost_picousd")
    assert not lost or 10 * 10**6 < attempt.max_cost_picousd < 10**10
    return lost and not attempt.HasField("cost_picousd")


@RPCS
async def test_another_replica_answers_and_the_lost_attempt_is_in_the_bill(
    house: House, rpc: str
) -> None:
    house.backend.enqueue(death(rpc), answer(rpc))
    reply = await house.ask(rpc)
    assert reply.text == "e4"
    assert [is_lost(attempt) for attempt in reply.attempts] == [True, False]
    assert not reply.usage.HasField("cost_picousd")


@RPCS
async def test_an_unknown_cost_counts_for_the_quota_of_a_token(
    routed: Any, rpc: str, tmp_path: Path
) -> None:
    """With the most that it can be: of attempts that the router lost, and of the service's own."""
    entry = {"sha256": sha256(TOKEN.encode()).hexdigest()}
    (tmp_path / "tokens.yaml").write_text(json.dumps({"tokens": {"alice": entry}}))
    files = {"tokens": tmp_path / "tokens.yaml", "usage": tmp_path / "usage.sqlite"}
    own = (Attempt("p", "u", 200, cost_picousd=7), Attempt("p", "u", 0, max_cost_picousd=9))
    unknown = replace(completion("e4"), usage=Usage(3, 1), attempts=own)
    attempts: list[Any] = []
    async with _house(routed, settings=files) as house:
        streamed = [Delta(text="e4"), unknown]
        for steps in ([death(rpc), answer(rpc)], [unknown if rpc == "Generate" else streamed]):
            house.backend.enqueue(*steps)
            attempts += (await house.ask(rpc)).attempts
        failed = errors.UpstreamUnavailable("down", report=CallReport(attempts=own))
        for steps in ([death(rpc), death(rpc)], [failed]):
            house.backend.enqueue(*steps)
            attempts += details(await house.fail(rpc))["CallReport"].attempts
    assert len(attempts) == 2 + 2 + 2 + 2
    await (book := UsageBook(files["usage"])).exchange()
    expected = sum(attempt.cost_picousd + attempt.max_cost_picousd for attempt in attempts)
    assert book.today("alice").picousd == expected > 3 * 10**7


@RPCS
@pytest.mark.parametrize("report", [PAID, None], ids=["paid", "unpaid"])
async def test_an_error_of_the_other_replica_has_the_lost_attempt(
    house: House, rpc: str, report: CallReport | None
) -> None:
    error = errors.UpstreamUnavailable("down", retry_after=2, report=report)
    house.backend.enqueue(death(rpc), error)
    failed = await house.fail(rpc)
    found = details(failed)
    assert (reason(failed), failed.details()) == ("UPSTREAM_UNAVAILABLE", "down")
    assert found["RetryInfo"].retry_delay.seconds == 2
    attempts = found["CallReport"].attempts
    assert [is_lost(attempt) for attempt in attempts] == [True] + [False] * bool(report)
    assert not found["CallReport"].usage.HasField("cost_picousd")


@RPCS
async def test_if_the_other_replica_is_lost_too_both_are_in_the_error(
    house: House, rpc: str
) -> None:
    house.backend.enqueue(death(rpc), death(rpc))
    failed = await house.fail(rpc)
    assert (reason(failed), len(house.backend.history)) == ("BACKEND_DOWN", 2)
    assert [is_lost(attempt) for attempt in details(failed)["CallReport"].attempts] == [True] * 2


@RPCS
async def test_the_only_replica_is_lost(routed: Any, rpc: str) -> None:
    async with _house(routed, "127.0.0.1") as house:
        house.backend.enqueue(death(rpc))
        failed = await house.fail(rpc)
    assert reason(failed) == "BACKEND_DOWN"
    assert [is_lost(attempt) for attempt in details(failed)["CallReport"].attempts] == [True]


async def test_a_stream_that_has_begun_to_answer_is_not_repeated(house: House) -> None:
    house.backend.enqueue([Delta(text="half"), Death("death")])
    call = house.call("StreamGenerate")
    assert [(await anext(aiter(call))).WhichOneof("event") for _ in range(2)] == ["start", "delta"]
    failed = await failure(call)
    assert reason(failed) == "BACKEND_DOWN"
    assert len(house.backend.history) == 1
    assert [is_lost(attempt) for attempt in details(failed)["CallReport"].attempts] == [True]


@RPCS
@pytest.mark.parametrize(
    ("price", "fields", "expected"),
    [
        (FreePrice(), {}, []),
        (None, {}, [None]),
        (PRICE, {"provider_options_json": '{"plugins": ["web"]}'}, [None]),
    ],
    ids=["free", "no price", "options that may buy more"],
)
async def test_the_most_of_a_lost_attempt_is_known_only_with_a_price(
    routed: Any, rpc: str, price: Price | None, fields: dict[str, Any], expected: list[None]
) -> None:
    async with _house(routed, price=price) as house:
        house.backend.enqueue(death(rpc), answer(rpc))
        first = (await house.ask(rpc, **fields)).attempts[:-1]
    assert [
        a.max_cost_picousd if a.HasField("max_cost_picousd") else None for a in first
    ] == expected


@RPCS
async def test_what_was_lost_before_a_fallback_is_in_its_reply(house: House, rpc: str) -> None:
    """The local model is free, and what was lost before it is not."""
    house.backend.enqueue(death(rpc), errors.InsufficientCredits("no credits"))
    reply = await house.ask(rpc, **OTHERS)
    assert (reply.text, reply.served_by.backend) == ("ok", "b")
    assert [is_lost(attempt) for attempt in reply.attempts] == [True]
    assert not reply.usage.HasField("cost_picousd")


@RPCS
async def test_an_error_of_the_router_has_what_the_models_before_it_paid(
    house: House, rpc: str
) -> None:
    """The first call is to the local model, whose report has a price all the same."""
    house.local.enqueue(errors.RefusedByProvider("no", report=PAID))
    house.backend.enqueue(death(rpc), death(rpc))
    fields = {"fallback_models": {"names": ["a_model"]}}
    failed = await failure(getattr(house.llm, rpc)(request("b_model", **LIMIT, **fields)))
    found = details(failed)
    assert reason(failed) == "BACKEND_DOWN"
    assert found["ErrorInfo"].metadata["failed_models"] == "b_model: REFUSED_BY_PROVIDER"
    assert [is_lost(one) for one in found["CallReport"].attempts] == [False, True, True]


async def test_a_missed_deadline_has_what_the_backend_says_of_it(house: House) -> None:
    house.backend.enqueue(errors.DeadlineExceeded("late", report=PAID))
    failed = await house.fail("Generate")
    assert reason(failed) == "DEADLINE_EXCEEDED"
    (attempt,) = details(failed)["CallReport"].attempts
    assert (attempt.upstream_id, attempt.cost_picousd) == ("u", 7)


@RPCS
@pytest.mark.parametrize("begun", [True, False], ids=["cancelled", "late"])
async def test_a_caller_that_leaves_counts_the_most_for_its_quota(
    routed: Any, rpc: str, begun: bool, tmp_path: Path
) -> None:
    """Otherwise a token with a quota of dollars could read each stream nearly to its end."""
    entry = {"sha256": sha256(TOKEN.encode()).hexdigest(), "usd_per_day": 0.00001}
    (tmp_path / "tokens.yaml").write_text(json.dumps({"tokens": {"alice": entry}}))
    files = {"tokens": tmp_path / "tokens.yaml", "usage": tmp_path / "usage.sqlite"}
    async with _house(routed, settings=files) as house:
        house.backend.enqueue(hang)
        call = house.call(rpc, prompt="x" * 400) if begun else house.call_late(rpc)
        await eventually(lambda: house.backend.running > 0)
        if begun:
            call.cancel()
        else:
            await failure(call)

        async def spent() -> int:
            await (book := UsageBook(files["usage"])).exchange()
            return book.today("alice").picousd

        async with asyncio.timeout(20):  # the price is known a moment later
            while not await spent():  # noqa: ASYNC110 - asks the file
                await asyncio.sleep(0.01)
        error = await house.fail("Generate")
    assert reason(error) == "QUOTA_EXCEEDED"
    assert details(error)["ErrorInfo"].metadata["quota"] == "usd_per_day"
    await (book := UsageBook(files["usage"])).exchange()
    used = book.today("alice")
    assert used.picousd > 10 * 10**6
    assert used.tokens >= (100 if begun else 1)


@pytest.mark.parametrize(
    ("price", "fields", "expected"),
    [
        (PRICE, {}, 10**6 * (100 + 10)),
        (PRICE, {"provider_options_json": '{"plugins": ["web"]}'}, 10**6 * (100 + 10)),
        (FreePrice(), {}, 0),
        (None, {}, 0),
    ],
    ids=["price", "options that may buy more", "free", "no price"],
)
def test_what_a_left_call_costs_by_its_price(
    price: Price | None, fields: dict[str, Any], expected: int
) -> None:
    info = to_message(Model("a_model", price=price), models_pb2.ModelInfo)
    data = request("a_model", prompt="x" * 400, **LIMIT, **fields).SerializeToString()
    one, two = (estimate_left(data, info, 5, attempts) for attempts in (1, 2))
    assert one.picousd >= expected
    assert bool(one.picousd) == bool(expected)
    assert two.picousd == 2 * one.picousd
    assert 100 <= one.tokens - 5 <= 110


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"raw": {"text": "x" * 400}}, 101),
        ({"raw": {"token_ids": {"ids": range(7)}}}, 7),
        ({}, 0),
        ({"prompt": "x" * 400, "constraint": {"json_schema": {"schema": '{"a": "\n"}'}}}, 101),
    ],
    ids=["raw text", "raw tokens", "no prompt", "a schema that is not JSON"],
)
def test_a_request_of_any_kind_has_an_estimate(fields: dict[str, Any], tokens: int) -> None:
    info = to_message(Model("a_model", price=PRICE), models_pb2.ModelInfo)
    data = generate_pb2.GenerateRequest(model="a_model", **fields).SerializeToString()
    assert estimate_left(data, info, 5, 1).tokens == 5 + tokens
    assert estimate_left(data, None, 5, 1) == (5 + tokens, 0)
    assert estimate_left(b"\xff" + data, info, 5, 1) == (5, 0)
