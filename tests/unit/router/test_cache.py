"""The router's cache: which calls it answers, what a hit looks like, and what is never kept."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import ValidationError

from arena.experiment.load import load_experiment
from arena.experiment.model_calls import ModelCaller
from arena.results.reader import Reader
from arena.results.rows import MoveRow
from arena.results.upgrade import open_to_read
from arena_llm import AsyncClient
from arena_llm.types import Attempt, Availability, CostBasis, Delta, Model, ModelState, Usage
from arena_llm.v1 import reply_pb2
from router.cache.config import CacheConfig
from router.cache.sqlite import SqliteStore
from router.cache.valkey import ValkeyStore
from router.config import RouterConfig
from router.servicer import Router
from services.common import errors
from services.common.config import ConfigError
from services.common.servicer import LlmServicer
from tests.support import scripted_experiment
from tests.support.playing_service import PlayingBackend
from tests.support.scripted import ScriptedBackend, completion, hang, scripted, serving
from tests.support.waiting import eventually
from tests.support.wire import failure, reason, request, stub

GREEDY = {"config": {"temperature": 0}}
RPCS = pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])


class House(NamedTuple):
    llm: Any
    router: Router
    backend: ScriptedBackend

    async def ask(self, rpc: str = "Generate", **fields: Any) -> Any:
        """Return the completion of a call."""
        return (await self.stream(rpc, **fields))[-1]

    async def stream(self, rpc: str, **fields: Any) -> list[Any]:
        """Return the texts of a call's deltas, and its completion."""
        call = getattr(self.llm, rpc)(request(**{**GREEDY, **fields}))
        if rpc == "Generate":
            return [await call]
        events = [event async for event in call]
        assert [event.sequence for event in events] == list(range(len(events)))
        kinds = [event.WhichOneof("event") for event in events]
        assert (kinds.count("start"), kinds[0], kinds[-1]) == (1, "start", "completion")
        deltas = [event.delta.text for event in events if event.HasField("delta")]
        return [*deltas, events[-1].completion]


@asynccontextmanager
async def routing(address: str, store: object, **cache: Any) -> AsyncIterator[tuple[str, Router]]:
    """A router with a cache in front of a service: its address, and the router."""
    config = RouterConfig.model_validate(
        {
            "listen": "127.0.0.1:0",
            "routes": {"hf_": {"targets": [address]}},
            "cache": {"store": str(store), **cache},
        }
    )
    router = Router(config)
    async with serving(router) as server:
        yield server.address, router


Open = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
async def open_house(tmp_path: Path) -> AsyncIterator[Open]:
    async with scripted() as (backend, server):

        @asynccontextmanager
        async def opened(*, asks: bool = True, **cache: Any) -> AsyncIterator[House]:
            """asks: ask for the model's revision first, which takes no step of the script then."""
            store = cache.pop("store", tmp_path / "folder/replies.sqlite")
            async with (
                routing(server.address, store, **cache) as (address, router),
                stub(address) as llm,
            ):
                if asks:
                    await router.cache._find_revision("hf_model")
                yield House(llm, router, backend)

        yield opened


@pytest.fixture
async def house(open_house: Open) -> AsyncIterator[House]:
    async with open_house() as made:
        yield made


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
async def test_only_what_may_be_equal_is_kept(open_house: Open, rpc: str, name: str) -> None:
    fields, kept = REQUESTS[name]
    async with open_house(models=["hf_model"]) as house:
        first, second = [await house.ask(rpc, **fields) for _ in range(2)]
        assert (first.cached, second.cached) == (False, kept)
        assert len(house.backend.history) == 2 - kept
        assert (house.router.cache.counts.hits, house.router.cache.counts.kept) == (kept, kept)


async def test_hits_and_misses_are_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[str] = []
    monkeypatch.setattr("router.cache.cache.meter.count_cached", outcomes.append)
    for _ in range(2):
        await house.ask()
    await house.ask(config={})  # not for the cache
    assert outcomes == ["miss", "hit"]


async def test_a_hit_is_marked_and_costs_nothing(house: House) -> None:
    usage = Usage(3, 1, cost_picousd=30, cost_basis=CostBasis.BILLED)
    whole = replace(
        completion("e4"), usage=usage, attempts=(Attempt("p", "u", 200),), id="c1", warnings=("w",)
    )
    house.backend.enqueue(whole)
    paid = await house.ask(request_id="one")
    hit = await house.ask(request_id="two", session="s", labels={"k": "v"})
    assert (paid.usage.cost_picousd, len(paid.attempts), paid.cached) == (30, 1, False)
    assert (hit.usage.cost_picousd, len(hit.attempts), hit.cached) == (0, 0, True)
    assert hit.usage.cost_basis == reply_pb2.COST_BASIS_FREE
    assert (paid.request_id, hit.request_id) == ("one", "two")
    assert len((await house.ask()).request_id) == 32
    assert hit.timings.total_seconds > 0
    for field in ("message", "text", "finish_reason", "served_by", "id", "warnings"):
        assert getattr(hit, field) == getattr(paid, field)
    assert hit.usage.prompt_tokens == 3


async def test_a_stream_is_kept_with_its_pieces(house: House) -> None:
    house.backend.enqueue([Delta(reasoning="hm"), Delta(text="e"), Delta(text="4")])
    first = await house.stream("StreamGenerate")
    second = await house.stream("StreamGenerate")
    assert first[:-1] == second[:-1] == ["", "e", "4"]
    assert (first[-1].cached, second[-1].cached) == (False, True)
    assert (await house.ask("Generate")).text == "e4"  # the request is the same
    assert len(house.backend.history) == 1


async def test_a_whole_reply_is_streamed_by_its_parts(house: House) -> None:
    house.backend.enqueue("e4")
    assert not (await house.ask("Generate")).cached
    (delta, whole) = await house.stream("StreamGenerate")
    assert (delta, whole.text, whole.cached) == ("e4", "e4", True)


DIFFERENT = [
    {"prompt": "other"},
    {"config": {"temperature": 0, "max_tokens": 5}},
    {"constraint": {"choices": {"values": ["ok"]}}},
    {"returns": {"raw_text": True}},
]


async def test_every_field_that_changes_the_reply_counts(house: House) -> None:
    await house.ask()
    for fields in DIFFERENT:
        assert not (await house.ask(**fields)).cached, fields


@RPCS
async def test_a_failed_call_is_not_kept(house: House, rpc: str) -> None:
    house.backend.enqueue(errors.UpstreamUnavailable("down", retry_after=2))
    error = await failure(getattr(house.llm, rpc)(request(**GREEDY)))
    assert (reason(error), error.details()) == ("UPSTREAM_UNAVAILABLE", "down")
    assert not (await house.ask(rpc)).cached
    assert house.router.cache.counts.kept == 1


async def test_a_stream_that_breaks_off_is_not_kept(house: House) -> None:
    house.backend.enqueue([Delta(text="half"), errors.UpstreamUnavailable("down")])
    await failure(house.llm.StreamGenerate(request(**GREEDY)))
    assert not (await house.ask("StreamGenerate")).cached


class Gate:
    """A step of the backend that ends when it is opened. waiting: calls that have come."""

    def __init__(self, text: str | Exception = "ok") -> None:
        self._opened = asyncio.Event()
        self._text = text

    def open(self) -> None:
        self._opened.set()

    async def __call__(self) -> str:
        await self._opened.wait()
        if isinstance(self._text, Exception):
            raise self._text
        return self._text


@pytest.mark.parametrize("first", ["Generate", "StreamGenerate"])
@RPCS
async def test_equal_calls_at_the_same_time_cost_one(house: House, first: str, rpc: str) -> None:
    gate = Gate()
    house.backend.enqueue(gate)
    counts = house.router.cache.counts
    async with asyncio.TaskGroup() as group:
        leader = group.create_task(house.ask(first))
        await eventually(lambda: house.backend.running)
        others = [group.create_task(house.ask(rpc)) for _ in range(5)]
        await eventually(lambda: counts.joined == 5)
        gate.open()
    assert not leader.result().cached
    assert [task.result().cached for task in others] == [True] * 5
    assert len(house.backend.history) == 1


@RPCS
async def test_if_the_first_of_equal_calls_fails_the_others_make_their_own(
    house: House, rpc: str
) -> None:
    gate = Gate(errors.RateLimited("slow"))
    house.backend.enqueue(gate)
    leader = asyncio.ensure_future(failure(getattr(house.llm, rpc)(request(**GREEDY))))
    await eventually(lambda: house.backend.running)
    other = asyncio.ensure_future(house.ask(rpc))
    await eventually(lambda: house.router.cache.counts.joined)
    gate.open()
    assert reason(await leader) == "RATE_LIMITED"
    assert (await other).text == "ok"


@RPCS
async def test_a_cancelled_call_is_not_kept_and_those_that_wait_go_on(
    house: House, rpc: str
) -> None:
    house.backend.enqueue(hang)
    leader = getattr(house.llm, rpc)(request(**GREEDY))
    reading = asyncio.ensure_future(failure(leader))
    await eventually(lambda: house.backend.running)
    other = asyncio.ensure_future(house.ask(rpc))
    await eventually(lambda: house.router.cache.counts.joined)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not (await other).cached
    assert house.router.cache.counts.kept == 1


async def test_a_stream_that_waits_for_an_equal_call_shows_signs_of_life(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.cache.call.PROGRESS_SECONDS", 0.01)
    for text in ("ok", errors.RateLimited("slow")):
        gate = Gate(text)
        house.backend.enqueue(gate)
        fields = {"prompt": str(text), **GREEDY}
        leader = asyncio.ensure_future(house.llm.Generate(request(**fields)))
        await eventually(lambda: house.backend.running)
        call = house.llm.StreamGenerate(request(**fields))
        events = [await anext(aiter(call)) for _ in range(3)]
        gate.open()
        events += [event async for event in call]
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds[:3] == ["start", "progress", "progress"]
        assert (kinds.count("start"), kinds[-2:]) == (1, ["delta", "completion"])
        assert [event.sequence for event in events] == list(range(len(events)))
        assert events[-1].completion.cached == isinstance(text, str)
        await asyncio.wait([leader])
        leader.exception()


async def test_another_revision_of_the_model_is_another_key(
    open_house: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.cache.cache._REVISION_SECONDS", -1)
    async with open_house() as house:
        for revision, cached in (("r1", False), ("r1", True), ("r2", False), ("r1", True)):
            model = Model("hf_model", model_revision=revision)
            house.backend.availability = Availability(True, ModelState.READY, model=model)
            assert (await house.ask()).cached == cached, revision


async def test_without_an_answer_about_the_revision_nothing_is_kept(open_house: Open) -> None:
    async with open_house(asks=False) as house:
        house.backend.enqueue(errors.Overloaded("busy"), "ok")
        assert not (await house.ask()).cached
        assert house.router.cache.counts.kept == 0
        await house.ask()
        assert (await house.ask()).cached


async def test_another_router_of_this_machine_reads_the_same_file(open_house: Open) -> None:
    async with open_house() as one, open_house() as two:
        await one.ask()
        assert (await two.ask()).cached
    async with open_house() as later:
        assert (await later.ask()).cached


async def test_only_this_user_can_read_the_file(house: House, tmp_path: Path) -> None:
    await house.ask()
    for path in (tmp_path / "folder").iterdir():
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, path


@RPCS
async def test_a_store_that_fails_does_not_fail_calls(
    house: House, tmp_path: Path, rpc: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "folder/replies.sqlite")) as connection:
        connection.execute("DROP TABLE replies")
    assert [(await house.ask(rpc)).text for _ in range(2)] == ["ok", "ok"]
    assert house.router.cache.counts.errors == 4


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def stored(path: Path, clock: Clock, **settings: Any) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(CacheConfig(store=str(path / "r.sqlite"), **settings), clock)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_the_least_recently_used_replies_are_dropped(tmp_path: Path) -> None:
    clock = Clock()
    async with stored(tmp_path, clock, max_bytes=1000) as store:
        for number in range(10):
            await store.put(b"%d" % number, "", b"x" * 100)
            clock.now += 100
        assert await store.get(b"0", "") is not None  # used now
        await store.put(b"10", "", b"x" * 100)
        found = [n for n in range(11) if await store.get(b"%d" % n, "") is not None]
        assert found == [0, 3, 4, 5, 6, 7, 8, 9, 10]
        await store.put(b"10", "", b"y" * 100)  # in place of the one before
        with closing(sqlite3.connect(tmp_path / "r.sqlite")) as connection:
            assert connection.execute("SELECT bytes FROM total").fetchone() == (900,)


async def test_old_and_large_replies_are_not_returned(open_house: Open, tmp_path: Path) -> None:
    clock = Clock()
    async with stored(tmp_path, clock, max_age_seconds=60) as store:
        await store.put(b"d", "", b"x")
        clock.now += 60
        assert await store.get(b"d", "") == b"x"
        clock.now += 1
        assert await store.get(b"d", "") is None
    async with open_house(max_reply_bytes=1000) as house:
        for length, cached in ((100, True), (2000, False)):
            house.backend.default = "x" * length
            await house.ask(prompt=str(length))
            assert (await house.ask(prompt=str(length))).cached == cached


@pytest.mark.parametrize("content", [b"no database, but text", None], ids=["text", "other tables"])
async def test_a_file_of_another_program_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "r.sqlite"
    if content is None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (x)")
    else:
        path.write_bytes(content * 100)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=f"cache.store: {path}"):
        async with stored(tmp_path, Clock()):
            pass
    assert path.read_bytes() == before


async def test_routers_share_a_valkey_server(
    open_house: Open, valkey_client: Any, valkey_url: str
) -> None:
    async with (
        open_house(store=valkey_url, max_age_seconds=1000) as one,
        open_house(store=valkey_url) as two,
    ):
        await one.ask()
        assert (await two.ask()).cached
        (key,) = valkey_client.keys()
        assert 990_000 < valkey_client.pttl(key) <= 1_000_000
        valkey_client.flushall()
        assert not (await two.ask("StreamGenerate")).cached
        assert (await one.ask("StreamGenerate")).cached


async def test_calls_go_on_without_the_valkey_server(
    open_house: Open, valkey_server_factory: Any
) -> None:
    server = valkey_server_factory()
    url = f"valkey://:secret@{server.host}:{server.port}"
    with pytest.raises(ConfigError, match=r"cache\.store: the Valkey server does not answer") as e:
        await ValkeyStore(CacheConfig(store=url)).open()
    assert "secret" not in str(e.value)
    async with open_house(store=f"valkey://{server.host}:{server.port}") as house:
        await house.ask()
        server.stop()
        assert (await house.ask()).text == "ok"
        assert house.router.cache.counts.errors == 2


def test_a_recording_needs_a_file_and_one_process() -> None:
    routes = {"hf_": {"targets": ["127.0.0.1:1"]}}
    for cache, workers, problem in (
        ({"mode": "replay", "store": "valkey://h:1"}, 1, "needs a file"),
        ({"mode": "record"}, 2, "needs workers: 1"),
    ):
        with pytest.raises(ValidationError, match=problem):
            RouterConfig.model_validate(
                {"listen": "127.0.0.1:0", "routes": routes, "cache": cache, "workers": workers}
            )


EXPERIMENT = """
games: [tic_tac_toe]
seed: 7
episodes: 2
temperature: 0
models: [hf_a, hf_b]
"""
#: Columns that differ from run to run.
VOLATILE = ("latency_ms", "request_id", "cached", "attempts", "cost_picousd", "cost_basis")

Moves = dict[str, list[MoveRow]]


async def play_experiment(llm: AsyncClient, folder: Path, name: str, text: str) -> Moves:
    """Play an experiment into a results file of its own, and return its moves by episode."""
    file = folder / "e.yaml"
    await asyncio.to_thread(file.write_text, text)
    results = folder / f"{name}.sqlite"
    await scripted_experiment.run(load_experiment(file), results, ModelCaller(llm, "e"))
    with open_to_read(results) as connection:
        reader = Reader(connection)
        return {row.episode: reader.moves(row) for row in reader.episodes()}


def comparable(moves: Moves) -> Moves:
    """Return the moves without the columns that differ from run to run."""
    without: dict[str, Any] = dict.fromkeys(VOLATILE)
    return {e: [replace(row, **without) for row in rows] for e, rows in moves.items()}


async def test_a_rerun_of_an_experiment_costs_nothing_and_gives_the_same_rows(
    tmp_path: Path,
) -> None:
    backend = PlayingBackend(tmp_path)
    store = tmp_path / "replies.sqlite"
    async with (
        serving(LlmServicer(backend)) as service,
        routing(service.address, store) as (address, _),
        AsyncClient(address) as llm,
    ):
        first = await play_experiment(llm, tmp_path, "one", EXPERIMENT)
        paid = len(backend.history)
        second = await play_experiment(llm, tmp_path, "two", EXPERIMENT)
        assert (len(backend.history), len(first)) == (paid, 4)
    backend._calls.close()
    assert paid > 10
    assert comparable(first) == comparable(second)
    answers = [move for moves in second.values() for move in moves if move.model]
    assert {(move.cached, move.cost_picousd) for move in answers} == {(1, 0)}
