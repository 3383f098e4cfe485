"""The ledger of a run: which episodes it begins, and which replies it reuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arena.agents.calls import ModelCall, ModelReply
from arena.experiment.file import Experiment
from arena.experiment.ledger import Ledger, ask_through_ledger
from arena.experiment.recording import RecordingError
from arena.results.rows import CallKey, EpisodeRow
from arena.results.store import Store
from arena_llm.errors import UnavailableError
from tests.support.scripted_experiment import Script

KEY = CallKey("one", 0, 0, 0)
CALL = ModelCall("hf_a", (("user", "first line\nsecond line"),), {"timeout": 3}, choices=("a", "b"))


@pytest.fixture
def store(load: Callable[..., Experiment], tmp_path: Path) -> Iterator[Store]:
    experiment = load()
    with Store(tmp_path / "r.sqlite", experiment.row, experiment.models) as store:
        yield store


def row(status: str) -> EpisodeRow:
    return EpisodeRow("one", "nim", 0, ("a",), 1, status, 0)


async def test_a_reply_is_stored_before_it_is_used(store: Store) -> None:
    seen: list[object] = []

    class Watching(Ledger):
        async def record(self, key: CallKey, request: str, reply: ModelReply) -> ModelReply:
            seen.append(store.call(key))
            stored = await super().record(key, request, reply)
            seen.append(store.call(key))
            return stored

    ask = ask_through_ledger(Watching(store), Script())(KEY)
    reply = await ask(CALL)
    before, after = seen
    assert before is None
    assert isinstance(after, tuple)
    assert after[1] == reply


async def test_a_stored_reply_needs_no_call(store: Store) -> None:
    script = Script()
    first = await ask_through_ledger(Ledger(store), script)(KEY)(CALL)
    again = await ask_through_ledger(Ledger(store), script)(KEY)(CALL)
    assert first == again
    assert script.asked == [KEY]
    # The time limit is not part of the request.
    slower = ModelCall(CALL.model, CALL.messages, {"timeout": 60}, choices=CALL.choices)
    assert await ask_through_ledger(Ledger(store), script)(KEY)(slower) == first


async def test_a_stored_reply_to_another_request_is_an_error(store: Store) -> None:
    await ask_through_ledger(Ledger(store), Script())(KEY)(CALL)
    other = ModelCall("hf_a", (("user", "first line\nanother line"),), choices=("a", "b"))
    with pytest.raises(RecordingError) as caught:
        await ask_through_ledger(Ledger(store), Script())(KEY)(other)
    says = str(caught.value)
    assert says.startswith(
        f"{store.path}: the call of one, ply 0, seat 0, attempt 0 now has another"
    )
    assert '\n-second line"\n+another line"\n' in says


async def test_a_failed_call_is_made_again(store: Store) -> None:
    def down(key: CallKey, call: ModelCall) -> str:
        raise UnavailableError("down")

    script = Script(down)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await ask_through_ledger(Ledger(store), script)(KEY)(CALL)
    assert script.asked == [KEY, KEY]


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
