"""Which calls the router's cache answers, what a hit looks like, and what is never kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from arena_llm.types import Attempt, Availability, CostBasis, Delta, Model, ModelState, Usage
from arena_llm.v1 import reply_pb2
from services.common import errors
from tests.support.caching_router import GREEDY, RPCS, Open, Stack
from tests.support.scripted import completion
from tests.support.wire import failure, reason, request


def image(**fields: Any) -> dict[str, Any]:
    parts = [{"text": "what?"}, {"image": fields}]
    return {"prompt": None, "conversation": {"messages": [{"role": "ROLE_USER", "parts": parts}]}}


#: Requests, and whether an equal one is answered by the cache.
REQUESTS: dict[str, tuple[dict[str, Any], bool]] = {
    "temperature 0": (GREEDY, True),
    "top_k 1": ({"config": {"top_k": 1}}, True),
    "seeded": ({"config": {"temperature": 1, "seed": 0}}, True),
    "sampled": ({"config": {"temperature": 0.5}}, False),
    "the model's default": ({"config": {}}, False),
    "opted in": ({"config": {"temperature": 1}, "cache_use": "CACHE_USE_ALLOW"}, True),
    "opted out": ({**GREEDY, "cache_use": "CACHE_USE_BYPASS"}, False),
    "options of the provider": ({**GREEDY, "provider_options_json": '{"temperature": 1}'}, False),
    "an image": (GREEDY | image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png"), True),
    "the address of an image": (GREEDY | image(url="https://x.example/a.png"), False),
    "large": ({**GREEDY, "prompt": "x" * 200_000}, True),
    "another model": ({**GREEDY, "model": "hf_other"}, False),
}


@pytest.mark.parametrize("name", REQUESTS)
@RPCS
async def test_only_what_may_be_equal_is_kept(open_stack: Open, rpc: str, name: str) -> None:
    fields, kept = REQUESTS[name]
    async with open_stack(models=["hf_model"]) as stack:
        first, second = [await stack.ask(rpc, **fields) for _ in range(2)]
        assert (first.cached, second.cached) == (False, kept)
        assert len(stack.backend.history) == 2 - kept
        assert (stack.router.cache.counts.hits, stack.router.cache.counts.kept) == (kept, kept)


async def test_hits_and_misses_are_counted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[str] = []
    monkeypatch.setattr("router.cache.cache.meter.count_cached", outcomes.append)
    for _ in range(2):
        await stack.ask()
    await stack.ask(config={})  # not for the cache
    assert outcomes == ["miss", "hit"]


async def test_a_hit_is_marked_and_costs_nothing(stack: Stack) -> None:
    usage = Usage(3, 1, cost_picousd=30, cost_basis=CostBasis.BILLED)
    whole = replace(
        completion("e4"), usage=usage, attempts=(Attempt("p", "u", 200),), id="c1", warnings=("w",)
    )
    stack.backend.enqueue(whole)
    paid = await stack.ask(request_id="one")
    hit = await stack.ask(request_id="two", session="s", labels={"k": "v"})
    assert (paid.usage.cost_picousd, len(paid.attempts), paid.cached) == (30, 1, False)
    assert (hit.usage.cost_picousd, len(hit.attempts), hit.cached) == (0, 0, True)
    assert hit.usage.cost_basis == reply_pb2.COST_BASIS_FREE
    assert (paid.request_id, hit.request_id) == ("one", "two")
    assert len((await stack.ask()).request_id) == 32
    assert hit.timings.total_seconds > 0
    for field in ("message", "text", "finish_reason", "served_by", "id", "warnings"):
        assert getattr(hit, field) == getattr(paid, field)
    assert hit.usage.prompt_tokens == 3


async def test_a_stream_is_kept_with_its_pieces(stack: Stack) -> None:
    stack.backend.enqueue([Delta(reasoning="hm"), Delta(text="e"), Delta(text="4")])
    first = await stack.stream("StreamGenerate")
    second = await stack.stream("StreamGenerate")
    assert first[:-1] == second[:-1] == ["", "e", "4"]
    assert (first[-1].cached, second[-1].cached) == (False, True)
    assert (await stack.ask("Generate")).text == "e4"  # the request is the same
    assert len(stack.backend.history) == 1


async def test_a_whole_reply_is_streamed_by_its_parts(stack: Stack) -> None:
    stack.backend.enqueue("e4")
    assert not (await stack.ask("Generate")).cached
    (delta, whole) = await stack.stream("StreamGenerate")
    assert (delta, whole.text, whole.cached) == ("e4", "e4", True)


DIFFERENT = [
    {"prompt": "other"},
    {"config": {"temperature": 0, "max_tokens": 5}},
    {"constraint": {"choices": {"values": ["ok"]}}},
    {"returns": {"raw_text": True}},
]


async def test_every_field_that_changes_the_reply_counts(stack: Stack) -> None:
    await stack.ask()
    for fields in DIFFERENT:
        assert not (await stack.ask(**fields)).cached, fields


@RPCS
async def test_a_failed_call_is_not_kept(stack: Stack, rpc: str) -> None:
    stack.backend.enqueue(errors.UpstreamUnavailable("down", retry_after=2))
    error = await failure(getattr(stack.llm, rpc)(request(**GREEDY)))
    assert (reason(error), error.details()) == ("UPSTREAM_UNAVAILABLE", "down")
    assert not (await stack.ask(rpc)).cached
    assert stack.router.cache.counts.kept == 1


async def test_a_stream_that_breaks_off_is_not_kept(stack: Stack) -> None:
    stack.backend.enqueue([Delta(text="half"), errors.UpstreamUnavailable("down")])
    await failure(stack.llm.StreamGenerate(request(**GREEDY)))
    assert not (await stack.ask("StreamGenerate")).cached


async def test_another_revision_of_the_model_is_another_key(
    open_stack: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.cache.cache._REVISION_SECONDS", -1)
    async with open_stack() as stack:
        for revision, cached in (("r1", False), ("r1", True), ("r2", False), ("r1", True)):
            model = Model("hf_model", model_revision=revision)
            stack.backend.availability = Availability(True, ModelState.READY, model=model)
            assert (await stack.ask()).cached == cached, revision


async def test_without_an_answer_about_the_revision_nothing_is_kept(open_stack: Open) -> None:
    async with open_stack(asks=False) as stack:
        stack.backend.enqueue(errors.Overloaded("busy"), "ok")
        assert not (await stack.ask()).cached
        assert stack.router.cache.counts.kept == 0
        await stack.ask()
        assert (await stack.ask()).cached
