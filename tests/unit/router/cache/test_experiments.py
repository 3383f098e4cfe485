"""Experiments behind the cache: a rerun costs nothing, and a replay needs no models."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from arena.experiment.load import load_experiment
from arena.experiment.model_calls import ModelCaller
from arena.results.reader import Reader
from arena.results.rows import MoveRow
from arena.results.upgrade import open_to_read
from arena_llm import AsyncClient
from services.common.servicer import LlmServicer
from tests.support import scripted_experiment
from tests.support.caching_router import routing
from tests.support.playing_service import PlayingBackend
from tests.support.ports import free_ports
from tests.support.scripted import serving

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


async def test_an_experiment_is_replayed_without_its_models(tmp_path: Path) -> None:
    """Its calls are sampled, and equal positions of different games got different replies."""
    sampled = EXPERIMENT.replace("temperature: 0", "temperature: 1")
    store = tmp_path / "recording.sqlite"
    backend = PlayingBackend(tmp_path)
    async with (
        serving(LlmServicer(backend)) as service,
        routing(service.address, store, mode="record") as (address, _),
        AsyncClient(address) as llm,
    ):
        recorded = await play_experiment(llm, tmp_path, "one", sampled)
    backend._calls.close()
    (port,) = free_ports(1)  # nothing listens where the service was
    async with (
        routing(f"127.0.0.1:{port}", store, mode="replay") as (address, _),
        AsyncClient(address) as llm,
    ):
        replayed = await play_experiment(llm, tmp_path, "two", sampled)
    assert comparable(replayed) == comparable(recorded)
