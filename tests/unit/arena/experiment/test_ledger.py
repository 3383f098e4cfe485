"""The ledger of a run: which episodes it begins, and which replies it reuses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arena.agents.calls import Ask, ModelCall, ModelReply
from arena.experiment.budget import Budget, BudgetSpent
from arena.experiment.file import Experiment
from arena.experiment.ledger import Backend, Ledger, ask_through_ledger
from arena.experiment.recording import RecordingError
from arena.results.database import connect
from arena.results.rows import CallKey, EpisodeRow, ExperimentRow, make_request_id
from arena.results.spending import SUMS, Spent
from arena.results.store import Store
from arena_llm import ArenaError
from arena_llm.errors import DeadlineExceededError, InvalidArgumentError, UnavailableError
from arena_llm.types import Attempt, CallReport, FreePrice, PriceTable, PriceUnit, Rate
from tests.support.scripted_experiment import Script

KEY = CallKey("one", 0, 0, 0)
CALL = ModelCall("hf_a", (("user", "first line\nsecond line"),), {"timeout": 3}, choices=("a", "b"))


@pytest.fixture
def store(load: Callable[..., Experiment], tmp_path: Path) -> Iterator[Store]:
    experiment = load()
    with Store(tmp_path / "r.sqlite", experiment.row, experiment.models) as store:
        yield store


def row(status: str) -> EpisodeRow:
    return EpisodeRow("one", "nim", 0, ("hf_a",), 1, status, 0)


def ask_through(store: Store, backend: Backend) -> Ask:
    return ask_through_ledger(Ledger(store), backend, store.run_id)(KEY)


async def test_a_reply_is_stored_before_it_is_used(store: Store) -> None:
    seen: list[object] = []

    class Watching(Ledger):
        async def record(self, key: CallKey, request: str, reply: ModelReply) -> ModelReply:
            seen.append(store.call(key))
            stored = await super().record(key, request, reply)
            seen.append(store.call(key))
            return stored

    ask = ask_through_ledger(Watching(store), Script(), store.run_id)(KEY)
    reply = await ask(CALL)
    before, after = seen
    assert before is None
    assert isinstance(after, tuple)
    assert after[1] == reply


async def test_a_stored_reply_needs_no_call(store: Store) -> None:
    script = Script()
    first = await ask_through(store, script)(CALL)
    again = await ask_through(store, script)(CALL)
    assert first == again
    assert script.asked == [KEY]
    # The time limit is not part of the request.
    slower = ModelCall(CALL.model, CALL.messages, {"timeout": 60}, choices=CALL.choices)
    assert await ask_through(store, script)(slower) == first


async def test_a_stored_reply_to_another_request_is_an_error(store: Store) -> None:
    await ask_through(store, Script())(CALL)
    other = ModelCall("hf_a", (("user", "first line\nanother line"),), choices=("a", "b"))
    with pytest.raises(RecordingError) as caught:
        await ask_through(store, Script())(other)
    says = str(caught.value)
    assert says.startswith(
        f"{store.path}: the call of one, ply 0, seat 0, attempt 0 now has another"
    )
    assert '\n-second line"\n+another line"\n' in says


#: What the router says of a replica that was lost.
LOST_REPLICA = UnavailableError("gone", reason="BACKEND_DOWN")
LOST_REPLICA.report = CallReport(attempts=(Attempt(reason="BACKEND_DOWN"),))


async def test_a_failed_call_is_made_again(store: Store) -> None:
    def down(key: CallKey, call: ModelCall) -> str:
        raise UnavailableError("down")

    script = Script(down)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await ask_through(store, script)(CALL)
    assert script.asked == [KEY, KEY]
    assert len(set(script.request_ids)) == 1


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (UnavailableError("gone", reason="CONNECTION_LOST"), True),
        (UnavailableError("gone", reason="BACKEND_DOWN", metadata={"reached": "true"}), True),
        (UnavailableError("down", reason="BACKEND_DOWN", metadata={"reached": "false"}), False),
        (LOST_REPLICA, True),
        (UnavailableError("down", reason="UNREACHABLE"), False),
        (DeadlineExceededError("late", reason="DEADLINE_EXCEEDED"), True),
        (InvalidArgumentError("wrong", reason="INVALID_REQUEST"), False),
        (None, True),
    ],
)
async def test_a_call_without_an_answer_has_an_unknown_cost(
    store: Store, error: ArenaError | None, lost: bool
) -> None:
    """Not so one that was refused, or that reached nobody. None: the call was cancelled."""

    def fail(key: CallKey, call: ModelCall) -> str:
        raise error or asyncio.CancelledError

    with pytest.raises((ArenaError, asyncio.CancelledError)):
        await ask_through(store, Script(fail))(CALL)
    if error is None:
        store.begin_call(KEY)  # the next try
    assert store.spent() == Spent(unpriced=int(lost))
    free = Ledger(store, prices={CALL.model: FreePrice()})
    with pytest.raises((ArenaError, asyncio.CancelledError)):
        await ask_through_ledger(free, Script(fail), store.run_id)(KEY)(CALL)
    assert store.spent() == Spent(unpriced=int(lost))


#: 1 picodollar for a token of the prompt, and 1000 for one of the reply.
PRICE = PriceTable((Rate(PriceUnit.PROMPT_TOKEN, 1), Rate(PriceUnit.COMPLETION_TOKEN, 1000)))


def read(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(connect(path)) as connection:
        return connection.execute(query).fetchall()


def read_spent(path: Path) -> Spent:
    """What all runs of all experiments have spent."""
    runs = read(path, "SELECT * FROM runs")
    return sum((Spent(*run[-len(SUMS) :]) for run in runs), Spent())


@pytest.mark.parametrize("constrained", [False, True])
async def test_a_lost_call_has_a_bound_that_the_budget_counts(
    store: Store, constrained: bool
) -> None:
    """It stays when the process ends, and goes when the service says what the call cost."""

    def fail(key: CallKey, call: ModelCall) -> str:
        raise asyncio.CancelledError

    call = replace(CALL, sampling={"max_tokens": 10}, choices=("a",) if constrained else None)
    budget = Budget(max_cost_usd=3e-8)
    ledger = Ledger(store, budget, prices={CALL.model: PRICE})
    for _ in range(2):  # the second one makes the first one a lost call
        with pytest.raises(asyncio.CancelledError):
            await ask_through_ledger(ledger, Script(fail), store.run_id)(KEY)(call)
    spent = store.spent()
    requests = 2 if constrained else 1
    assert (spent.unpriced, spent.bounded, spent.cost_picousd) == (1, 1, 0)
    assert 10_000 * requests < spent.unpriced_picousd < 12_000 * requests
    assert "+ at most $" in budget.describe(spent)
    store.close()
    with Store(store.path, ExperimentRow("x", "{}"), []) as again:  # gives up the other one
        rows = read(again.path, "SELECT reason, max_cost_picousd FROM failed_calls")
        assert rows == [("LOST", spent.unpriced_picousd)] * 2
        assert read_spent(again.path) == spent + spent
        found = ModelReply("x", "m", 1.0, cost_picousd=5, finds_lost=True)
        again.put_call(KEY, "{}", found)
        assert read_spent(again.path) == Spent(uncounted=1, cost_picousd=5)


async def test_a_budget_that_unknown_costs_may_have_used_up_stops_the_run(store: Store) -> None:
    unknown = ModelReply("a", "m", 1.0, prompt_tokens=1, completion_tokens=1, max_cost_picousd=7)
    store.put_call(replace(KEY, ply=1), "{}", unknown)
    tight, enough = (Ledger(store, Budget(max_cost_usd=usd)) for usd in (7e-12, 8e-12))
    with pytest.raises(BudgetSpent, match=r"at most \$0\.000000000007 of"):
        await tight.recall(KEY, "{}", CALL.model)
    assert await enough.recall(KEY, "{}", CALL.model) is None


async def test_a_bound_of_the_service_is_preferred(store: Store) -> None:
    """It knows its instructions and the tools; the ledger's own one is for lost calls."""
    bounds = (3, 4)
    error = UnavailableError("no", reason="UPSTREAM_UNAVAILABLE")
    error.report = CallReport(
        attempts=tuple(Attempt(reason=error.reason, max_cost_picousd=most) for most in bounds)
    )

    def fail(key: CallKey, call: ModelCall) -> str:
        raise error

    ledger = Ledger(store, prices={CALL.model: PRICE})
    with pytest.raises(UnavailableError):
        await ask_through_ledger(ledger, Script(fail), store.run_id)(KEY)(CALL)
    assert store.spent() == Spent(unpriced=2, bounded=2, unpriced_picousd=8)


async def test_the_attempts_of_a_failed_call_are_counted_one_by_one(store: Store) -> None:
    error = UnavailableError("no", reason="UPSTREAM_UNAVAILABLE")
    error.report = CallReport(
        attempts=(
            Attempt(reason="UPSTREAM_UNAVAILABLE"),
            Attempt(http_status=429, reason="RATE_LIMITED", cost_picousd=0),
            Attempt(http_status=200, reason="UPSTREAM_UNAVAILABLE", cost_picousd=5),
            Attempt(reason="UPSTREAM_UNAVAILABLE"),
        ),
    )

    def fail(key: CallKey, call: ModelCall) -> str:
        raise error

    with pytest.raises(UnavailableError):
        await ask_through(store, Script(fail))(CALL)
    assert store.spent() == Spent(cost_picousd=5, unpriced=2)


async def test_a_later_run_has_the_same_request_ids(
    load: Callable[..., Experiment], tmp_path: Path
) -> None:
    """So that a reply that was lost with the process is not paid twice."""
    experiment, script = load(), Script()
    for name, plies in (("r", (0, 1)), ("r", (1, 2)), ("other", (1,))):
        with Store(tmp_path / name, experiment.row, experiment.models) as store:
            ask_for = ask_through_ledger(Ledger(store), script, store.run_id)
            for ply in plies:
                key = replace(KEY, ply=ply)
                await ask_for(key)(CALL)
    zero, one, two, other = script.request_ids  # the stored reply of ply 1 is not asked again
    assert zero[:16] == one[:16] == two[:16] != other[:16]
    assert len({zero, one, two, other}) == 4
    assert all(re.fullmatch("[0-9a-f-]{1,64}", request_id) for request_id in script.request_ids)


def test_a_request_id_depends_on_all_of_the_call() -> None:
    ids = {
        make_request_id("a" * 16, key, request)
        for key in (KEY, replace(KEY, episode="o"), replace(KEY, seat=1), replace(KEY, attempt=1))
        for request in ("{}", "[]")
    }
    assert len(ids) == 8


@pytest.mark.parametrize(
    ("status", "begins"),
    [(None, True), ("failed", True), ("finished", False), ("forfeited", False)],
)
async def test_an_episode_with_a_result_is_not_begun(
    store: Store, status: str | None, begins: bool
) -> None:
    ledger = Ledger(store)
    if status:
        assert await ledger.begin("one")
        await ledger.finish(row(status), [])
    assert await ledger.begin("one") is begins
