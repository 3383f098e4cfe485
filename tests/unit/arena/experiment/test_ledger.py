"""The books of a run: what is begun, recalled, kept and refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arena.calls import ModelCall, ModelReply
from arena.experiment.config import Experiment
from arena.experiment.ledger import Ledger, asking
from arena.experiment.tape import RecordError
from arena.results.rows import CallKey, EpisodeRow
from arena.results.store import Store
from arena_llm.errors import UnavailableError
from tests.support.playing import Script

KEY = CallKey("one", 0, 0, 0)
CALL = ModelCall("hf_a", (("user", "first line\nsecond line"),), {"timeout": 3}, choices=("a", "b"))


@pytest.fixture
def store(load: Callable[..., Experiment], tmp_path: Path) -> Iterator[Store]:
    experiment = load()
    with Store(tmp_path / "r.sqlite", experiment.row, experiment.models) as store:
        yield store


def row(status: str) -> EpisodeRow:
    return EpisodeRow("one", "nim", 0, ("a",), 1, status, 0)


async def test_a_reply_is_kept_before_it_is_used(store: Store) -> None:
    seen: list[object] = []

    class Keeping(Ledger):
        async def record(self, key: CallKey, request: str, reply: ModelReply) -> ModelReply:
            seen.append(store.call(key))
            kept = await super().record(key, request, reply)
            seen.append(store.call(key))
            return kept

    ask = asking(Keeping(store), Script())(KEY)
    reply = await ask(CALL)
    before, after = seen
    assert before is None
    assert isinstance(after, tuple)
    assert after[1] == reply


async def test_a_kept_reply_is_not_asked_for(store: Store) -> None:
    script = Script()
    first = await asking(Ledger(store), script)(KEY)(CALL)
    again = await asking(Ledger(store), script)(KEY)(CALL)
    assert first == again
    assert script.asked == [KEY]
    # How long it may take is no part of what is asked.
    slower = ModelCall(CALL.model, CALL.messages, {"timeout": 60}, choices=CALL.choices)
    assert await asking(Ledger(store), script)(KEY)(slower) == first


async def test_a_kept_reply_to_something_else_is_not_used(store: Store) -> None:
    await asking(Ledger(store), Script())(KEY)(CALL)
    other = ModelCall("hf_a", (("user", "first line\nanother line"),), choices=("a", "b"))
    with pytest.raises(RecordError) as caught:
        await asking(Ledger(store), Script())(KEY)(other)
    says = str(caught.value)
    assert says.startswith(f"{store.path}: the call of one, ply 0, seat 0, attempt 0 was another")
    assert '\n-second line"\n+another line"\n' in says


async def test_a_call_that_failed_is_asked_again(store: Store) -> None:
    def down(key: CallKey, call: ModelCall) -> str:
        raise UnavailableError("down")

    script = Script(down)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await asking(Ledger(store), script)(KEY)(CALL)
    assert script.asked == [KEY, KEY]


@pytest.mark.parametrize(
    ("status", "begins"),
    [(None, True), ("failed", True), ("finished", False), ("forfeited", False)],
)
async def test_what_ended_well_is_not_begun(store: Store, status: str | None, begins: bool) -> None:
    ledger = Ledger(store)
    if status:
        assert await ledger.begin("one")
        await ledger.finish(row(status), [])
    assert await ledger.begin("one") is begins
