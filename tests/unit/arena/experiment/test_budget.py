"""Budgets: over all runs of an experiment, a warning in time, and a clean stop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from arena.calls import ModelCall, ModelReply
from arena.experiment.budget import NEAR, Budget, BudgetSpent
from arena.experiment.config import Experiment
from arena.experiment.ledger import Ledger
from arena.results.database import connect
from arena.results.rows import CallKey
from arena.results.spending import Spent
from arena.results.store import Store
from arena_llm.errors import UnavailableError
from tests.support.playing import Script, run, some_choice

Load = Callable[..., Experiment]

TEXT = "games: [tic_tac_toe]\nmodels: [hf_a, hf_b]\nepisodes: 3\nreply: choices\n"


@pytest.mark.parametrize(
    ("budget", "spent", "used"),
    [
        (Budget(), Spent(10**9, 1e9), 0.0),
        (Budget(2.0), Spent(10**9, 1.5), 0.75),
        (Budget(None, 200), Spent(100, 1e9), 0.5),
        (Budget(2.0, 200), Spent(100, 1.5), 0.75),
        (Budget(2.0, 200), Spent(190, 1.5), 0.95),
        (Budget(2.0, 200), Spent(200, 0.0), 1.0),
    ],
)
def test_the_bound_that_is_nearest_counts(budget: Budget, spent: Spent, used: float) -> None:
    assert budget.used(spent) == pytest.approx(used)
    if used < 1:
        budget.check(spent, Spent(0, 0.0))
    else:
        with pytest.raises(BudgetSpent, match=r"of max_tokens_total 200$"):
            budget.check(spent, Spent(0, 0.0))


# A call takes 12 tokens and a cent.
@pytest.mark.parametrize(
    ("bound", "calls"), [("max_tokens_total: 240", 20), ("max_cost_usd: 0.205", 20)]
)
async def test_a_stop_is_clean_and_a_higher_bound_goes_on(
    load: Load, tmp_path: Path, bound: str, calls: int
) -> None:
    path, expected = tmp_path / "r.sqlite", tmp_path / "expected.sqlite"
    script = Script()
    with pytest.raises(BudgetSpent, match="the budget is spent: "):
        await run(load(TEXT + bound), path, script, width=1)
    assert len(script.asked) == calls
    assert kept(path) == calls
    # With the same bound not one call more.
    again = Script()
    with pytest.raises(BudgetSpent):
        await run(load(TEXT + bound), path, again, width=1)
    assert again.asked == []
    # All is there: with more money the rest is played, and nothing twice.
    await run(load(TEXT), path, again)
    assert not set(again.asked) & set(script.asked)
    await run(load(TEXT), expected, Script())
    assert path.read_bytes() == expected.read_bytes()


async def test_calls_under_way_are_kept(load: Load, tmp_path: Path) -> None:
    path, script = tmp_path / "r.sqlite", Script()
    with pytest.raises(BudgetSpent):
        await run(load(TEXT + "max_tokens_total: 240"), path, script, width=6)
    assert kept(path) <= len(script.asked) <= 20


async def test_the_bound_holds_for_all_processes_together(load: Load, tmp_path: Path) -> None:
    """What others spend counts as soon as there is a reply of our own."""
    experiment = load(TEXT + "max_tokens_total: 240")
    with Store(tmp_path / "r.sqlite", experiment.row, experiment.models) as store:
        ledger = Ledger(store, experiment.budget)
        other = connect(tmp_path / "r.sqlite", write=True)
        other.execute("UPDATE meter SET tokens = tokens + 216")
        other.close()
        await one_call(ledger, 0)
        assert ledger.spent.tokens == 228
        assert experiment.budget.used(ledger.spent) > NEAR
        await one_call(ledger, 1)
        with pytest.raises(BudgetSpent):
            await one_call(ledger, 2)


async def one_call(ledger: Ledger, ply: int) -> None:
    key = CallKey("one", ply, 0, 0)
    assert await ledger.recall(key, "{}", "hf_a") is None
    await ledger.record(key, "{}", ModelReply("x", "m", 1.0, prompt_tokens=10, completion_tokens=2))


async def test_calls_under_way_count_as_replies_of_their_model_do(
    load: Load, tmp_path: Path
) -> None:
    experiment = load(TEXT + "max_tokens_total: 48")
    with Store(tmp_path / "r.sqlite", experiment.row, experiment.models) as store:
        ledger = Ledger(store, experiment.budget)
        await one_call(ledger, 0)
        calls = [CallKey("one", ply, 0, 0) for ply in range(1, 5)]
        for key in calls[:3]:
            assert await ledger.recall(key, "{}", "hf_a") is None
        with pytest.raises(BudgetSpent, match="12 of max_tokens_total 48, and the next call would"):
            await ledger.recall(calls[3], "{}", "hf_a")
        # Of this one nothing is known; another run would know as much.
        assert await ledger.recall(CallKey("two", 0, 0, 0), "{}", "hf_b") is None
        # One that failed takes nothing, nor does one of an episode that was given up.
        await ledger.failed(calls[2], "{}", UnavailableError("down"))
        assert await ledger.recall(calls[3], "{}", "hf_a") is None
        await ledger.drop("one")
        for key in calls[:3]:
            assert await ledger.recall(key, "{}", "hf_a") is None


async def test_a_later_run_knows_what_replies_take(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    with pytest.raises(BudgetSpent):
        await run(load(TEXT + "max_cost_usd: 0.205"), path, Script(), width=1)
    experiment = load(TEXT)
    with Store(path, experiment.row, experiment.models) as store:
        known = store.spent_by_model()
        assert known.keys() == {"hf_a", "hf_b"}
        assert sum(count for count, _ in known.values()) == kept(path) == 20
        for count, took in known.values():
            assert took == (12 * count, pytest.approx(0.01 * count))


async def test_failed_episodes_count_once(load: Load, tmp_path: Path) -> None:
    """Their replies are in the journal and in their moves."""

    def says(key: CallKey, call: ModelCall) -> str:
        if key.ply == 4:
            raise UnavailableError("down")
        return some_choice(key, call)

    experiment, path = load(TEXT), tmp_path / "r.sqlite"
    first = await run(experiment, path, Script(says))
    assert first.tokens == 12 * 4 * 6
    assert (await run(experiment, path, Script(says))).tokens == first.tokens


def kept(path: Path) -> int:
    """The replies that are in the file."""
    with closing(connect(path)) as connection:
        (found,) = connection.execute(
            "SELECT (SELECT count(*) FROM calls) + (SELECT count(*) FROM moves WHERE model <> '')"
        ).fetchone()
    return int(found)
