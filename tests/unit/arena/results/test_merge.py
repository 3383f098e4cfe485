"""Merging is the same in any order, adds nothing twice, and never looks at results."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from arena.agents.calls import ModelReply
from arena.results.merge import merge
from arena.results.rows import CallKey, EpisodeRow, ExperimentRow, FailedCallRow, ModelRow, MoveRow
from arena.results.store import Store
from tests.support.results import content

MODELS = [ModelRow("hf_a", "llm", "hf_a", "{}"), ModelRow("dice", "random", None, "{}")]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In memory where the system has such a folder: closing a file waits for the disk."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder made in it is private
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def episode(number: int, ended: int, status: str, returns: int) -> EpisodeRow:
    played = status == "finished"
    return EpisodeRow(
        f"e{number}", "nim", number, ("hf_a", "dice"), number, status, 1,
        None if played else "down", returns=(returns, -returns) if played else None, ended=ended,
    )  # fmt: skip


def write(path: Path, rows: list[EpisodeRow]) -> Path:
    path.unlink(missing_ok=True)
    with Store(path, ExperimentRow("one", "{}"), MODELS) as store:
        for row in rows:
            move = MoveRow(row.episode, 0, 0, 0, "ok", model="hf_a", reply=str(row.returns))
            store.put_episode(row, [move])
            if row.status == "failed":
                key = CallKey(row.episode, 0, 0, 0)
                store.put_call(key, "{}", ModelReply(str(row.ended), "hf_a", 1.0))
                failed = FailedCallRow(row.episode, 0, 0, 0, 0, "down", 1, 2, 3)
                store.put_failed_calls(key, [failed])
    return path


def draw_file(rng: random.Random) -> list[EpisodeRow]:
    """Up to three episodes, which other files may have too."""
    return [
        episode(number, rng.randint(1, 2), rng.choice(["finished", "failed"]), rng.randint(-1, 1))
        for number in rng.sample(range(3), rng.randint(0, 3))
    ]


def see(path: Path) -> dict[str, Any]:
    """The content, in an order of its own."""
    return {name: sorted(map(repr, rows)) for name, rows in content(path).items()}


@pytest.mark.parametrize("seed", range(8))
def test_neither_order_nor_repetition_matters(folder: Path, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    files = [draw_file(rng) for _ in range(3)]
    paths = [write(folder / f"{number}", rows) for number, rows in enumerate(files)]
    target = folder / "target"
    seen = []
    for order in list(permutations(paths))[::2]:
        target.unlink(missing_ok=True)
        merge(order, target)
        seen.append(see(target))
        merge(order[:2], target)
        assert see(target) == seen[0]
    # In two steps.
    half = folder / "half"
    half.unlink(missing_ok=True)
    merge(paths[1:], half)
    target.unlink()
    merge([half, paths[0]], target)
    assert see(target) == seen[0]


def test_which_of_two_is_kept(folder: Path) -> None:
    """The one that ended first, and an ended one rather than a failed one."""
    win, loss = episode(0, 5, "finished", 1), episode(0, 4, "finished", -1)
    failed = replace(episode(0, 3, "failed", 0))
    paths = [write(folder / f"w{n}", [row]) for n, row in enumerate((win, loss, failed))]
    merged = merge(paths, folder / "kept")
    assert (merged.added, merged.known, merged.conflicts) == (1, 2, 1)
    (row,) = content(folder / "kept")["episodes"]
    assert "[-1.0,1.0]" in row or "[-1,1]" in row
    assert content(folder / "kept")["calls"] == []


def test_players_are_joined_by_their_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal players with other names are one; other players with equal names are two."""
    monkeypatch.setattr("arena.results.store.time.time", lambda: 1)
    first = write(folder / "p1", [episode(0, 1, "finished", 1)])
    monkeypatch.setattr("arena.results.store.time.time", lambda: 2)
    other = folder / "p2"
    models = [replace(MODELS[0], agent="x"), replace(MODELS[1], agent="hf_a")]
    with Store(other, ExperimentRow("two", "{}"), models) as store:
        store.put_episode(replace(episode(1, 1, "finished", 0), agents=("x", "hf_a")), [])
    merge([first, other], folder / "joined")
    rows = content(folder / "joined")
    assert {row[3] for row in rows["episodes"]} == {'["x","hf_a"]'}
    assert [row[0] for row in rows["models"]] == ["hf_a", "x"]


def test_the_latest_run_names_the_players_in_any_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = []
    for number, name in enumerate(("old", "new", "older")):
        started = (2, 3, 1)[number]
        monkeypatch.setattr("arena.results.store.time.time", lambda started=started: started)
        files.append(folder / name)
        models = [MODELS[0], replace(MODELS[1], agent=name)]
        with Store(files[-1], ExperimentRow("one", f'{{"seed":{started}}}'), models) as store:
            row = replace(episode(number, 1, "finished", 0), agents=("hf_a", name))
            store.put_episode(row, [])
    for number, order in enumerate(permutations(files)):
        target = folder / f"named{number}"
        merge(order, target)
        assert [row[0] for row in content(target)["models"]] == ["hf_a", "new"]
        assert content(target)["experiments"] == [("one", '{"seed":3}')]
        merge([folder / "older"], target)  # again: nothing changes
        assert [row[0] for row in content(target)["models"]] == ["hf_a", "new"]


def test_a_name_that_is_given_again_is_the_latest(folder: Path) -> None:
    path = folder / "again"
    for name in ("a", "b", "a"):
        models = [MODELS[0], replace(MODELS[1], agent=name)]
        with Store(path, ExperimentRow("one", "{}"), models) as store:
            store.put_episode(replace(episode(0, 1, "finished", 0), agents=("hf_a", name)), [])
    assert [row[0] for row in content(path)["models"]] == ["a", "hf_a"]
