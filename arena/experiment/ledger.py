"""What every runner talks to: a reply is kept before it is used, and asked for once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from arena.calls import Ask, ModelCall, ModelReply
from arena.experiment.budget import Budget, UnderWay
from arena.experiment.tape import Recorder, RecordError, difference, shown
from arena.results.codec import request_to_json
from arena.results.rows import CallKey, EpisodeRow, MoveRow
from arena.results.spending import Spent, took
from arena.results.store import Store
from arena_llm import ArenaError

#: Answers a call: the models themselves (asking.py), or a record of them (tape.py).
Backend = Callable[[CallKey, ModelCall], Awaitable[ModelReply]]


class Ledger:
    """The books of one run over one results file.

    Its methods are coroutines so that it can as well be another process's. They raise
    ResultsError where the disk refuses.

    budget: calls that would pass it raise BudgetSpent, as far as that can be foreseen
    (see UnderWay); other processes' calls count when they have replies. recorder: gets
    every reply and failure too.
    """

    def __init__(
        self, store: Store, budget: Budget | None = None, recorder: Recorder | None = None
    ) -> None:
        """Raises RecordError: the results hold replies that the record lacks."""
        self._store = store
        self._budget = budget or Budget()
        self._recorder = recorder
        self._spent = store.spent()
        self._under_way = UnderWay({} if self._budget == Budget() else store.spent_by_model())
        if recorder is not None:
            recorder.check(store.answered(), str(store.path))

    @property
    def spent(self) -> Spent:
        """What all runs over this file spent, as of the last reply."""
        return self._spent

    async def begin(self, episode: str) -> bool:
        """Take an episode; False where it has ended well or another process plays it."""
        if not self._store.claim(episode):
            return False
        if self._store.status(episode) in (None, "failed"):
            return True
        self._store.release(episode)
        return False

    async def recall(self, key: CallKey, request: str, model: str) -> ModelReply | None:
        """The stored reply to a call; None: go and ask, then tell by `record` or `failed`.

        Raises RecordError: the stored one answers another request. BudgetSpent: there is
        none, and there is to be none.
        """
        stored = self._store.call(key)
        if stored is None:
            self._budget.check(self._spent, self._under_way.expected(model))
            self._under_way.begin(key, model)
            return None
        asked, reply = stored
        if asked != request:
            raise RecordError(
                f"{self._store.path}: {shown(key)} was another one when its reply was stored: "
                f"the run cannot go on with it\n{difference(_parsed(asked), request)}"
            )
        if self._recorder is not None:
            self._recorder.reply(key, request, reply)
        return reply

    async def record(self, key: CallKey, request: str, reply: ModelReply) -> ModelReply:
        """Keep a reply; returns the one to use, which is the one that was kept first."""
        self._under_way.end(key, took(reply))
        reply, self._spent = self._store.put_call(key, request, reply)
        if self._recorder is not None:
            self._recorder.reply(key, request, reply)
        return reply

    async def failed(self, key: CallKey, request: str, error: ArenaError) -> None:
        """Note a call that failed, in the record if there is one."""
        self._under_way.end(key)
        if self._recorder is not None:
            self._recorder.error(key, request, error)

    async def finish(self, row: EpisodeRow, moves: Sequence[MoveRow]) -> None:
        """Keep an episode that was begun."""
        self._store.put_episode(row, moves)
        self._store.release(row.episode)

    async def drop(self, episode: str) -> None:
        """Leave an episode that was begun to others; its replies stay."""
        self._under_way.drop(episode)
        self._store.release(episode)


def _parsed(text: str) -> Any:
    """A stored request; its text where it is not JSON, as in a file of somebody else's."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def asking(ledger: Ledger, backend: Backend) -> Callable[[CallKey], Ask]:
    """How an episode's players reach the models: through the ledger."""

    def ask_for(key: CallKey) -> Ask:
        async def ask(call: ModelCall) -> ModelReply:
            request = request_to_json(call)
            if (known := await ledger.recall(key, request, call.model)) is not None:
                return known
            try:
                reply = await backend(key, call)
            except ArenaError as error:
                await ledger.failed(key, request, error)
                raise
            return await ledger.record(key, request, reply)

        return ask

    return ask_for
