"""Budgets hold over all runs of an experiment, and stop a run without losing anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from arena.agents.calls import ModelCall, ModelReply
from arena.experiment.budget import NEAR, Budget, BudgetSpent, PendingCalls
from arena.experiment.file import Experiment
from arena.experiment.ledger import Ledger
from arena.results.database import connect
from arena.results.rows import CallKey
from arena.results.spending import Spent
from arena.results.store import Store
from arena_llm.errors import UnavailableError
from arena_llm.types import CallReport, Usage
from tests.support.results import content, count_replies
from tests.support.scripted_experiment import CENT, Script, run, some_choice

Load = Callable[..., Experiment]

TEXT = "games: [tic_tac_toe]\nmodels: [hf_a, hf_b]\nepisodes: 3\nreply: choices\n"


@pytest.mark.parametrize(
    ("budget", "spent", "used"),
    [
        (Budget(), Spent(10**9, 10**21), (0.0, "")),
        (Budget(2.0), Spent(10**9, 150 * CENT), (0.75, "max_cost_usd")),
        (Budget(None, 200), Spent(100, 10**21), (0.5, "max_tokens_total")),
        (Budget(2.0, 200), Spent(100, 150 * CENT), (0.75, "max_cost_usd")),
        (Budget(2.0, 200), Spent(190, 150 * CENT), (0.95, "max_tokens_total")),
        (Budget(2.0, 200), Spent(200, 0), (1.0, "max_tokens_total")),
        (Budget(1e-13, 200), Spent(200, 0), (1.0, "max_tokens_total")),
    ],
)
def test_the_tightest_limit_counts(budget: Budget, spent: Spent, used: tuple[float, str]) -> None:
    assert budget.used(spent) == used
    if used[0] < 1:
        budget.check(spent, Spent())
    else:
        with pytest.raises(BudgetSpent, match=r"of max_tokens_total 200$"):
            budget.check(spent, Spent())


def test_costs_are_exact() -> None:
    """Sums of a tenth of a dollar as floats would pass the limit, or stay under it."""
    tenth, budget = Spent(1, 10 * CENT), Budget(0.3)
    spent = sum([tenth] * 2, Spent())
    budget.check(spent, tenth)
    with pytest.raises(BudgetSpent, match=r"\$0\.30 of max_cost_usd 0\.3$"):
        budget.check(spent + tenth, Spent())


def test_unknown_usage_is_left_out_of_the_mean() -> None:
    calls = PendingCalls({"hf_a": (3, Spent(20, 3 * CENT, uncounted=1, unpriced=2))})
    assert calls.expected("hf_a") == Spent(10, 3 * CENT)
    calls = PendingCalls({"hf_a": (2, Spent(0, 0, uncounted=2, unpriced=2))})
    assert calls.expected("hf_a") == Spent()


# A call takes 12 tokens and a cent.
@pytest.mark.parametrize(
    ("bound", "calls"), [("max_tokens_total: 240", 20), ("max_cost_usd: 0.205", 20)]
)
async def test_a_run_stops_and_continues_with_a_higher_limit(
    load: Load, tmp_path: Path, bound: str, calls: int
) -> None:
    path, expected = tmp_path / "r.sqlite", tmp_path / "expected.sqlite"
    script = Script()
    with pytest.raises(BudgetSpent, match="the budget is spent: "):
        await run(load(TEXT + bound), path, script, width=1)
    assert len(script.asked) == calls
    assert count_replies(path) == calls
    # With the same limit there is no further call.
    again = Script()
    with pytest.raises(BudgetSpent):
        await run(load(TEXT + bound), path, again, width=1)
    assert again.asked == []
    # Without a limit the rest is played, and no call is made twice.
    await run(load(TEXT), path, again)
    assert not set(again.asked) & set(script.asked)
    await run(load(TEXT), expected, Script())
    assert content(path) == content(expected)


async def test_the_replies_of_pending_calls_are_stored(load: Load, tmp_path: Path) -> None:
    path, script = tmp_path / "r.sqlite", Script()
    with pytest.raises(BudgetSpent):
        await run(load(TEXT + "max_tokens_total: 240"), path, script, width=6)
    assert count_replies(path) <= len(script.asked) <= 20


async def test_the_limit_covers_all_processes(load: Load, tmp_path: Path) -> None:
    """The usage of other processes counts as of the next reply of this one."""
    experiment = load(TEXT + "max_tokens_total: 240")
    with Store(tmp_path / "r.sqlite", experiment.row, experiment.models) as store:
        ledger = Ledger(store, experiment.budget)
        other = connect(tmp_path / "r.sqlite", write=True)
        columns = "'r', ?, 0, '', '', '', '', '', 216, 0, 0, 0, 0, 0"
        other.execute(f"INSERT INTO runs VALUES (NULL, {columns})", (experiment.name,))  # noqa: S608
        other.close()
        await one_call(ledger, 0)
        assert ledger.spent.tokens == 228
        assert experiment.budget.used(ledger.spent)[0] > NEAR
        await one_call(ledger, 1)
        with pytest.raises(BudgetSpent):
            await one_call(ledger, 2)


async def one_call(ledger: Ledger, ply: int) -> None:
    key = CallKey("one", ply, 0, 0)
    assert await ledger.recall(key, "{}", "hf_a") is None
    await ledger.record(key, "{}", ModelReply("x", "m", 1.0, prompt_tokens=10, completion_tokens=2))


async def test_a_pending_call_counts_as_the_mean_of_its_models_replies(
    load: Load, tmp_path: Path
) -> None:
    experiment = load(TEXT + "max_tokens_total: 48")
    with Store(tmp_path / "r.sqlite", experiment.row, experiment.models) as store:
        ledger = Ledger(store, experiment.budget)
        await one_call(ledger, 0)
        calls = [CallKey("one", ply, 0, 0) for ply in range(1, 5)]
        for key in calls[:3]:
            assert await ledger.recall(key, "{}", "hf_a") is None
        with pytest.raises(BudgetSpent, match="12 of max_tokens_total 48, and the next"):
            await ledger.recall(calls[3], "{}", "hf_a")
        # This model has no replies yet, so its call is expected to cost nothing.
        assert await ledger.recall(CallKey("two", 0, 0, 0), "{}", "hf_b") is None
        # A failed call costs nothing, and neither does a call of a dropped episode.
        await ledger.failed(calls[2], "{}", UnavailableError("down"))
        assert await ledger.recall(calls[3], "{}", "hf_a") is None
        await ledger.drop("one")
        for key in calls[:3]:
            assert await ledger.recall(key, "{}", "hf_a") is None


async def test_a_failed_call_counts_with_what_it_cost(load: Load, tmp_path: Path) -> None:
    experiment = load(TEXT + "max_cost_usd: 0.03")
    error = UnavailableError("cut midway")
    error.report = CallReport(usage=Usage(10, 2, cost_picousd=3 * CENT))
    with Store(tmp_path / "r.sqlite", experiment.row, experiment.models) as store:
        ledger = Ledger(store, experiment.budget)
        assert await ledger.recall(CallKey("one", 0, 0, 0), "{}", "hf_a") is None
        await ledger.failed(CallKey("one", 0, 0, 0), "{}", error)
        assert ledger.spent == store.spent() == Spent(12, 3 * CENT)
        with pytest.raises(BudgetSpent):
            await ledger.recall(CallKey("one", 1, 0, 0), "{}", "hf_a")


async def test_a_later_run_knows_the_mean_of_earlier_replies(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    with pytest.raises(BudgetSpent):
        await run(load(TEXT + "max_cost_usd: 0.205"), path, Script(), width=1)
    experiment = load(TEXT)
    with Store(path, experiment.row, experiment.models) as store:
        usage = store.spent_by_model()
        assert usage.keys() == {"hf_a", "hf_b"}
        assert sum(count for count, _ in usage.values()) == count_replies(path) == 20
        for count, spent in usage.values():
            assert spent == Spent(12 * count, CENT * count)


async def test_failed_episodes_count_once(load: Load, tmp_path: Path) -> None:
    """Their replies are stored both as calls and as moves."""

    def says(key: CallKey, call: ModelCall) -> str:
        if key.ply == 4:
            raise UnavailableError("down")
        return some_choice(key, call)

    experiment, path = load(TEXT), tmp_path / "r.sqlite"
    first = await run(experiment, path, Script(says))
    assert first.tokens == 12 * 4 * 6
    assert (await run(experiment, path, Script(says))).tokens == first.tokens
