"""What calls have cost, also those that failed, and those that were sent and never answered."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path

import pytest

from arena.results.rows import CallKey, FailedCallRow
from arena.results.spending import Spent
from arena.results.store import Store
from tests.support.result_rows import COST, EXPERIMENT, KEY, MODELS, MOVE, REPLY, ROW
from tests.support.results import select


def test_what_failed_calls_took_is_counted(path: Path) -> None:
    """Also after their episode was played again."""
    paid = FailedCallRow(*astuple(KEY), 0, "UNAVAILABLE INTERRUPTED", 7, None, 5)
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_call(KEY, "{}", REPLY)
        assert store.put_failed_calls(KEY, [paid]) == Spent(19, COST + 5)
        assert store.put_failed_calls(KEY, [paid]) == Spent(26, COST + 10)
        store.put_episode(ROW, [MOVE])
    with Store(path, EXPERIMENT, MODELS) as store:
        assert store.spent() == Spent(26, COST + 10)
    assert select(path, "SELECT number, cost_picousd FROM failed_calls") == [(0, 5), (1, 5)]


def unknown(path: Path) -> list[tuple[object, ...]]:
    """The requests without a reply whose cost is not known."""
    return select(path, "SELECT ply, reason FROM failed_calls WHERE cost_picousd IS NULL")


def test_what_was_sent_and_not_answered_stays_unknown(path: Path) -> None:
    """Until a later answer to the same request_id says what it cost."""
    other = CallKey(KEY.episode, 1, 0, 0)
    with Store(path, EXPERIMENT, MODELS) as store:
        assert store.begin_call(KEY) == Spent()  # not lost yet
        assert store.begin_call(other) == Spent()
        assert store.put_call(other, "{}", REPLY)[1] == Spent(12, COST)
        run_id = store.run_id
    assert unknown(path) == [(0, "SENT")]  # the process was killed before it had an outcome
    with Store(path, EXPERIMENT, MODELS) as store:
        assert store.run_id == run_id, "the next try has the same request_id"
        assert store.spent() == Spent(12, COST, 0, 1)
        assert store.begin_call(KEY) == Spent(12, COST, 0, 1)
        # A cancelled call and the next try, in the same process.
        assert store.begin_call(KEY) == Spent(12, COST, 0, 2)
        # A reply that tells nothing of the lost ones leaves them unknown.
        late = replace(REPLY, unknown_attempts=1, replayed=False)
        assert store.put_call(KEY, "{}", late)[1] == Spent(24, 2 * COST, 0, 3)
        assert sorted(unknown(path)) == [(0, "LOST"), (0, "LOST"), (0, "UNKNOWN")]


@pytest.mark.parametrize("found", [{"replayed": True}, {"finds_lost": True}])
def test_a_later_answer_says_what_the_lost_one_cost(path: Path, found: dict[str, bool]) -> None:
    with Store(path, EXPERIMENT, MODELS) as store:
        store.begin_call(KEY)
        store.begin_call(KEY)
        assert store.put_call(KEY, "{}", replace(REPLY, **found))[1] == Spent(12, COST)
    assert unknown(path) == []
