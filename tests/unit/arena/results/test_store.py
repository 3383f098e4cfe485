"""A run stores calls and episodes in the results file, and finds them again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from arena.agents.calls import ModelReply
from arena.results.reader import Reader, make_query
from arena.results.rows import CallKey, EpisodeRow, ExperimentRow, MoveRow
from arena.results.spending import Spent
from arena.results.store import Store
from arena.results.upgrade import open_to_read
from tests.support.result_rows import COST, EXPERIMENT, KEY, MODELS, MOVE, REPLY, ROW
from tests.support.results import content, select


def test_a_stored_reply_is_visible_immediately(store: Store, path: Path) -> None:
    assert store.call(KEY) is None
    assert store.put_call(KEY, "{}", REPLY) == (REPLY, Spent(12, COST))
    assert store.call(KEY) == ("{}", REPLY)
    assert select(path, "SELECT episode, ply, request FROM calls") == [(KEY.episode, 0, "{}")]


def test_the_first_reply_of_a_call_is_kept(store: Store) -> None:
    store.put_call(KEY, "{}", REPLY)
    late = ModelReply("late", "hf_a", 1.0, prompt_tokens=1)
    # The second reply was paid for, too.
    assert store.put_call(KEY, "{}", late) == (REPLY, Spent(13, COST, 1, 1))
    assert store.call(KEY) == ("{}", REPLY)
    # Not so a reply that was replayed.
    assert store.put_call(KEY, "{}", REPLY) == (REPLY, Spent(13, COST, 1, 1))


def test_an_ended_episode_takes_its_calls_out_of_the_journal(store: Store, path: Path) -> None:
    other = CallKey("nim/1/hf_a,dice", 0, 0, 0)
    for key in (KEY, other):
        store.put_call(key, "{}", REPLY)
    store.put_episode(ROW, [MOVE])
    assert (store.call(KEY), store.call(other)) == (None, ("{}", REPLY))
    assert store.statuses([KEY.episode, "none"]) == {KEY.episode: "finished"}
    assert store.spent() == Spent(24, 2 * COST)
    assert store.answered([KEY.episode]) == [KEY]
    with open_to_read(path) as connection:
        reader = Reader(connection)
        (episode,) = reader.episodes()
        assert episode.ended > 0
        assert replace(episode, ended=0) == ROW
        assert reader.moves(episode) == [MOVE]


def test_a_reader_sees_the_file_as_it_was_at_its_first_look(store: Store, path: Path) -> None:
    """Otherwise an episode that a run adds could have a game that the reader does not know."""
    store.put_episode(ROW, [MOVE])
    with open_to_read(path) as connection:
        reader = Reader(connection)
        store.put_episode(replace(ROW, episode="chess/0", game="chess"), [])
        assert [episode.game for episode in reader.episodes()] == ["nim"]
    with open_to_read(path) as connection:
        assert {episode.game for episode in Reader(connection).episodes()} == {"nim", "chess"}


def test_a_failed_episode_keeps_its_calls_and_can_be_replaced(store: Store, path: Path) -> None:
    store.put_call(KEY, "{}", REPLY)
    error = MoveRow(KEY.episode, 1, 1, 0, "error", "hf_a", problem="down")
    failed = EpisodeRow(KEY.episode, "nim", 0, ("hf_a", "dice"), 1, "failed", 1, "down")
    store.put_episode(failed, [MOVE, error])
    assert store.status(KEY.episode) == "failed"
    assert store.call(KEY) == ("{}", REPLY)
    assert store.answered([KEY.episode]) == []
    store.put_episode(ROW, [MOVE])
    assert select(path, "SELECT status FROM episodes") == [("finished",)]
    assert select(path, "SELECT count(*), sum(errors) FROM seats") == [(2, 0)]


def test_a_closed_file_is_complete_and_alone(path: Path, tmp_path: Path) -> None:
    """However the same was written, the content is equal, and no file is left beside it."""
    other = tmp_path / "other.sqlite"
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_call(KEY, "{}", REPLY)
        store.put_episode(ROW, [MOVE])
    for _ in range(3):
        Store(other, EXPERIMENT, MODELS[::-1]).close()
    with Store(other, EXPERIMENT, MODELS) as store:
        for number in range(100):
            store.put_call(CallKey(KEY.episode, number, 0, 0), "x" * 5000, REPLY)
        store.put_episode(ROW, [MOVE])
    assert content(other) == content(path)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert select(path, "PRAGMA journal_mode") == [("delete",)]
    assert select(path, "PRAGMA integrity_check") == [("ok",)]


def test_an_episode_that_has_ended_is_not_changed(path: Path) -> None:
    """A worker that seemed to be dead may store its episode a second time."""
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_episode(ROW, [MOVE])
        before = content(path)
        store.put_episode(replace(ROW, returns=(0.0, 0.0)), [])
        failed = replace(ROW, status="failed", returns=None, reason="down")
        store.put_episode(failed, [])
    assert content(path) == before


def test_the_run_id_stays_the_same(path: Path) -> None:
    ids = []
    for run_id in ("", "", "f" * 16):
        with Store(path, EXPERIMENT, MODELS, run_id) as store:
            ids.append(store.run_id)
    assert len(set(ids)) == 1
    with Store(path.with_name("new"), EXPERIMENT, MODELS, "f" * 16) as store:
        assert store.run_id == "f" * 16


def test_experiments_share_a_file_but_not_their_budgets(path: Path) -> None:
    other = ExperimentRow("two", "{}")
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_call(KEY, "{}", REPLY)
        store.put_episode(ROW, [MOVE])
    renamed = [replace(MODELS[0], agent="x"), replace(MODELS[1], agent="y")]
    with Store(path, other, renamed) as store:
        assert store.status(KEY.episode) == "finished"
        assert store.spent() == Spent()
        query = make_query(other, [KEY.episode], renamed)
        assert store.answered([KEY.episode]) == [KEY]
    with open_to_read(path) as connection:
        assert [one.agents for one in Reader(connection, query).episodes()] == [("x", "y")]
    with Store(path, EXPERIMENT, MODELS) as store:
        assert store.spent() == Spent(12, COST)


def test_an_experiment_may_change(path: Path) -> None:
    """Its latest file is stored."""
    Store(path, EXPERIMENT, MODELS).close()
    Store(path, ExperimentRow("one", '{"a":2}'), MODELS).close()
    assert select(path, "SELECT * FROM experiments") == [("one", '{"a":2}')]
