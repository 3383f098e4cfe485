"""What is seen of a results file while it changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from arena.agents.calls import ModelReply
from arena.experiment.file import Experiment
from arena.experiment.load import load_experiment
from arena.experiment.schedule import schedule
from arena.live.watch import Watcher
from arena.results.rows import CallKey, ExperimentRow, ModelRow
from arena.results.store import Store
from tests.support.random_play import play

EXPERIMENT = ExperimentRow("test", "{}")
PLAYERS = [ModelRow(name, "llm", name, "{}") for name in ("hf_one", "hf_two")]


@asynccontextmanager
async def watching(path: Path, experiment: Experiment | None = None) -> AsyncIterator[Watcher]:
    watcher = Watcher(path, experiment)
    task = asyncio.create_task(watcher.run())
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def first(events: Any, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Return the first value that fulfils the condition."""
    async with aclosing(events):
        async for event in events:
            value: dict[str, Any] = json.loads(event.removeprefix("data: "))
            if condition(value):
                return value
    raise AssertionError


async def test_a_file_may_come_later_and_its_episodes_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "arena.sqlite"
    played = play("tic_tac_toe", ("hf_one", "hf_two"), 0)
    async with watching(path) as watcher:
        found = await first(watcher.episodes.events(), lambda value: value["problem"])
        assert "does not exist yet" in found["problem"]
        with Store(path, EXPERIMENT, PLAYERS) as store:
            store.put_call(CallKey("open", 0, 0, 0), "{}", ModelReply("center", "hf_one", 1.0))
            found = await first(watcher.episodes.events(), lambda value: value["running"])
            assert found["running"] == [{"episode": "open", "replies": 1}]

            # Without the experiment's file its game is not known.
            view = await first(watcher.follow("open"), lambda value: value["moves"])
            assert view["moves"] == [{"seat": 0, "text": "hf_one: center"}]
            assert "--config" in view["problem"]

            store.put_episode(played.row, played.moves)
            key = played.row.episode
            view = await first(watcher.follow(key), lambda value: value["status"] == "finished")
        assert len(view["moves"]) == len(played.moves)
        assert view["board"].count("x") == len(played.moves[0::2])  # the final position


async def test_what_is_no_results_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "arena.sqlite"
    path.write_text("no database")
    async with watching(path) as watcher:
        found = await first(watcher.episodes.events(), lambda value: value["problem"])
    assert str(path) in found["problem"]


async def test_each_game_has_its_own_number(tmp_path: Path) -> None:
    """The number in the report is that of the deal, which all line-ups play."""
    config = tmp_path / "live.yaml"
    config.write_text(
        "games: [chess, leduc_poker]\nagents: {a: {type: random}, b: {type: random}}\n"
        "episodes: 2\nswap_seats: true\n"
    )
    experiment = load_experiment(config)
    path = tmp_path / "arena.sqlite"
    with Store(path, EXPERIMENT, PLAYERS) as store:
        for spec in schedule(experiment):
            key = CallKey(spec.episode, 0, 0, 0)
            store.put_call(key, "{}", ModelReply("center", "hf_one", 1.0))
        async with watching(path, experiment) as watcher:
            found = await first(watcher.episodes.events(), lambda value: value["running"])
    shown = sorted((one["game"], one["number"], *one["agents"]) for one in found["running"])
    assert shown == [
        (game, number, *agents)
        for game in ("chess", "leduc_poker")
        for number, agents in (("1.1", "ab"), ("1.2", "ba"), ("2.1", "ab"), ("2.2", "ba"))
    ]
