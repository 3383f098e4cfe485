"""Stores every reply before it is used, so that no call is made twice."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from arena.agents.calls import (
    PERSON,
    Ask,
    ModelCall,
    ModelReply,
    describe_usage,
    is_lost,
    is_lost_attempt,
)
from arena.experiment.budget import Budget, PendingCalls
from arena.experiment.patience import ModelAway
from arena.experiment.prices import find_most
from arena.experiment.recording import (
    RecordedModels,
    Recorder,
    RecordingError,
    describe_call,
    show_difference,
)
from arena.results.rows import (
    CallKey,
    EpisodeRow,
    FailedCallRow,
    MoveRow,
    make_request_id,
    request_to_json,
)
from arena.results.spending import LOST, Spent, usage_of_reply
from arena.results.store import Store
from arena_llm import ArenaError, FreePrice
from arena_llm.types import CallReport, Price

#: Answers a call: the models (model_calls.py) or a recording of them (recording.py). The text is
#: the request_id to send.
Backend = Callable[[CallKey, ModelCall, str], Awaitable[ModelReply]]


class Ledger:
    """Stores the calls and episodes of one run in one results file.

    Its methods are coroutines because the ledger can be in another process. They raise
    ResultsError if the file cannot be written.

    episodes: the keys of the experiment's episodes; only a recording needs them. budget: a call
    that is expected to exceed it raises BudgetSpent (see PendingCalls). Calls of other processes
    count once they have a reply. recorder: also gets every reply and failure. prices: of models,
    as far as known. A model with a FreePrice costs nothing.

    A call of any other model is noted before it is sent. If its outcome never comes, because a
    process was killed or a connection broke, the note stays as an unknown cost.
    """

    def __init__(
        self,
        store: Store,
        budget: Budget | None = None,
        recorder: Recorder | None = None,
        prices: Mapping[str, Price] | None = None,
        episodes: Iterable[str] = (),
    ) -> None:
        """Raises RecordingError: the results contain replies that the recording lacks."""
        self._store = store
        self._budget = budget or Budget()
        self._recorder = recorder
        self._prices = {**(prices or {}), PERSON: FreePrice()}
        self._most: dict[CallKey, int | None] = {}  # the most that each pending call can cost
        self._spent = store.spent()
        self._pending = PendingCalls({} if self._budget == Budget() else store.spent_by_model())
        if recorder is not None:
            recorder.check(store.answered(episodes), str(store.path))

    @property
    def run_id(self) -> str:
        """See Store.run_id."""
        return self._store.run_id

    @property
    def spent(self) -> Spent:
        """The usage of all runs over this file, as of the last reply."""
        return self._spent

    async def begin(self, episode: str) -> bool:
        """Claim an episode; False if it has a result already or another process plays it."""
        if not self._store.claim(episode):
            return False
        if self._store.status(episode) in (None, "failed"):
            return True
        self._store.release(episode)
        return False

    async def status(self, episode: str) -> str | None:
        """The status of a stored episode; None if it is not stored."""
        return self._store.status(episode)

    async def recall(self, key: CallKey, request: str, model: str) -> ModelReply | None:
        """The stored reply to a call. None: make the call, then use `record` or `failed`.

        Raises RecordingError: the stored reply belongs to another request. BudgetSpent:
        no reply is stored, and the budget does not allow the call.
        """
        stored = self._store.call(key)
        if stored is None:
            self._budget.check(self._spent, self._pending.expected(model))
            self._pending.begin(key, model)
            price = self._prices.get(model)
            if not isinstance(price, FreePrice):
                self._most[key] = most = find_most(request, price)
                self._spent = self._store.begin_call(key, most)
            return None
        stored_request, reply = stored
        if stored_request != request:
            raise RecordingError(
                f"{self._store.path}: {describe_call(key)} now has another request than when its "
                "reply was stored, so this run cannot continue: use another results file\n"
                f"{show_difference(_parse(stored_request), request)}"
            )
        if self._recorder is not None:
            self._recorder.reply(key, self.run_id, request, reply)
        return reply

    async def record(self, key: CallKey, request: str, reply: ModelReply) -> ModelReply:
        """Store a reply. Returns the reply to use: the first one that was stored for this call."""
        model = self._pending.end(key, usage_of_reply(reply))
        if self._is_free(model) and reply.unknown_attempts:
            reply = replace(reply, unknown_attempts=0)
        most = self._most.pop(key, None)
        has_unknown = reply.unknown_attempts or reply.cost_picousd is None
        if has_unknown and reply.max_cost_picousd is None:
            reply = replace(reply, max_cost_picousd=most)
        reply, self._spent = self._store.put_call(key, request, reply)
        if self._recorder is not None:
            self._recorder.reply(key, self.run_id, request, reply)
        return reply

    async def failed(
        self, key: CallKey, request: str, error: ArenaError, final: bool = True
    ) -> None:
        """End a failed call, and count what it cost.

        final: the episode has failed, so a recording gets the error too.
        """
        model = self._pending.end(key)
        report = error.report or CallReport()
        lost = [attempt for attempt in report.attempts if is_lost_attempt(attempt)]
        attempts = tuple(attempt for attempt in report.attempts if attempt not in lost)
        took = describe_usage(report.usage, attempts)
        place = (key.episode, key.ply, key.seat, key.attempt, 0)
        reason = f"{error.code} {error.reason}".strip()
        figures = (took["prompt_tokens"], took["completion_tokens"], took["cost_picousd"])
        is_unknown = bool(attempts) and took["cost_picousd"] is None
        most = self._most.pop(key, None)
        if took["max_cost_picousd"] is not None:
            most = took["max_cost_picousd"]
        rows = [FailedCallRow(*place, reason, *figures)] if any(figures) or is_unknown else []
        rows += [FailedCallRow(*place, reason)] * took["unknown_attempts"]
        if error.report is None and is_lost(error):
            rows.append(FailedCallRow(*place, LOST))
        rows = [replace(r, max_cost_picousd=most) if r.cost_picousd is None else r for r in rows]
        bounds = [attempt.max_cost_picousd for attempt in lost]
        rows += [
            FailedCallRow(*place, LOST, max_cost_picousd=most if bound is None else bound)
            for bound in bounds
        ]
        if self._is_free(model):
            rows = [replace(r, cost_picousd=r.cost_picousd or 0) for r in rows if r.reason != LOST]
        self._spent = self._store.put_failed_calls(key, rows, took["finds_lost"])
        if self._recorder is not None and final:
            self._recorder.error(key, self.run_id, request, error)

    def _is_free(self, model: str | None) -> bool:
        return model is not None and isinstance(self._prices.get(model), FreePrice)

    async def finish(self, row: EpisodeRow, moves: Sequence[MoveRow]) -> None:
        """Store a claimed episode."""
        self._store.put_episode(row, moves)
        self._store.release(row.episode)

    async def drop(self, episode: str) -> None:
        """Release a claimed episode, so that it can be played later; its replies stay stored."""
        self._pending.drop(episode)
        self._most = {key: most for key, most in self._most.items() if key.episode != episode}
        self._store.release(episode)


def _parse(text: str) -> Any:
    """Parse a stored request. Returns the text if it is not JSON, as in a damaged file."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class CallLedger(Protocol):
    """The methods of a Ledger that one call needs. The coordinator of a run has them too."""

    async def recall(self, key: CallKey, request: str, model: str) -> ModelReply | None: ...
    async def record(self, key: CallKey, request: str, reply: ModelReply) -> ModelReply: ...
    async def failed(
        self, key: CallKey, request: str, error: ArenaError, final: bool = True
    ) -> None: ...


def ask_through_ledger(
    ledger: CallLedger, backend: Backend, run_id: str
) -> Callable[[CallKey], Ask]:
    """How the players call models: each call goes through the ledger.

    A person's answer is stored like a model's, so an interrupted game continues at its move, and
    a recording answers in the person's place.

    run_id: the ledger's, which can be in another process.
    """

    def ask_for(key: CallKey) -> Ask:
        async def ask(call: ModelCall) -> ModelReply:
            if not isinstance(call, ModelCall):
                raise TypeError(f"ask takes a ModelCall, not {type(call).__name__}")
            request = request_to_json(call)
            if (stored := await ledger.recall(key, request, call.model)) is not None:
                return stored
            try:
                if call.answer is None or isinstance(backend, RecordedModels):
                    reply = await backend(key, call, make_request_id(run_id, key, request))
                else:
                    reply = await call.answer()
            except ArenaError as error:
                await ledger.failed(key, request, error)
                raise
            except ModelAway as away:
                await ledger.failed(key, request, away.error, final=False)
                raise
            return await ledger.record(key, request, reply)

        return ask

    return ask_for
