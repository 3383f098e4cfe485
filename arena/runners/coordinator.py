"""The coordinator of a run: hands out episodes, stores replies, and counts progress."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from arena.agents.calls import ModelReply
from arena.experiment.ledger import Ledger
from arena.experiment.patience import Outage
from arena.experiment.recording import RecordedModels, Recorder
from arena.experiment.schedule import EpisodeSpec, schedule
from arena.games.text import UNKNOWN_PLAYOUT, measured_playouts
from arena.results.reader import make_query
from arena.results.rows import CallKey, EpisodeRow, MoveRow
from arena.results.store import Store
from arena.runners.job import Job, RunProgress
from arena.runners.queue import FairQueue
from arena_llm import ArenaError

if TYPE_CHECKING:
    from arena.runners.pairing import AdaptivePairing
    from arena.runners.stopping import StoppingRule

#: Seconds between two looks at episodes that other processes play.
_PAUSE = 0.2

_SEAT = re.compile(r"\bseat \d+: ")


class Coordinator:
    """Hands out episodes to workers and stores their replies and results: one for each run.

    Its methods are coroutines, so that workers in other processes can use it in the same way
    (see ray.py). Workers share the episodes in flight evenly: a worker that joins gets its share as
    episodes of others end, and the share of a worker that has left goes to the others. The episodes
    of a worker that died are queued again, and their stored replies are reused.
    """

    def __init__(self, job: Job) -> None:
        """Open the results. Raises ResultsError, RecordingError."""
        experiment = job.experiment
        specs = schedule(experiment)
        keys = [spec.episode for spec in specs]
        with ExitStack() as files:
            recorder = None
            if job.record is not None:
                names = {spec.episode: spec.name for spec in specs}
                recorder = files.enter_context(Recorder(job.record, names))
            run_id = job.backend.run_id if isinstance(job.backend, RecordedModels) else ""
            store = files.enter_context(
                Store(
                    job.results,
                    experiment.row,
                    experiment.models,
                    run_id,
                    network_disk=job.network_disk,
                )
            )
            self._ledger = Ledger(store, experiment.budget, recorder, job.prices, keys)
            self._files = files.pop_all()
        self._budget = experiment.budget
        self._models = {row.agent: row.model for row in experiment.models if row.model}
        statuses = store.statuses(keys)
        ended = Counter(status for status in statuses.values() if status != "failed")
        missing = [spec for spec in specs if statuses.get(spec.episode) in (None, "failed")]
        self._playouts = measured_playouts()
        # Caches: hundreds of thousands of episodes share these values.
        self._moves: dict[tuple[str, tuple[str, ...]], float] = {}
        self._lineups: dict[tuple[str, ...], frozenset[str]] = {}
        # Long games first: a long game that starts last would run alone at the end.
        missing.sort(key=self._expected_moves, reverse=True)
        self._rule: StoppingRule | None = None
        self._pairing: AdaptivePairing | None = None
        if experiment.settings.until is not None:
            # Deals in their order, so that runs that stop early share them.
            missing.sort(key=lambda spec: spec.number)
            query = make_query(experiment.row, keys, experiment.models)
            # scipy takes a second to load
            from arena.report.load import open_results
            from arena.runners.pairing import AdaptivePairing
            from arena.runners.stopping import StoppingRule

            with open_results(job.results, query) as results:
                self._rule = StoppingRule(experiment, results.columns)
                if experiment.settings.pairing == "adaptive":
                    self._pairing = AdaptivePairing(
                        specs, missing, self._rule.games, results.columns
                    )
        self._queue = FairQueue(() if self._pairing else missing, self._find_models)
        self._elsewhere: dict[str, EpisodeSpec] = {}
        self._looked = float("-inf")
        self._failed: dict[str, str] = {}
        self._away: dict[str, str] = {}
        self._outages: dict[int, Mapping[str, Outage]] = {}
        self._in_play: dict[int, set[str]] = {}  # by worker
        self._recorded = 0
        self._calls: Counter[str] = Counter()
        work = sum(map(self._expected_moves, missing))
        enough = self._rule.look() if self._rule else ""
        self._progress = RunProgress(len(specs), ended, work=work, enough=enough)
        wanted = len(specs) - ended.total()
        #: The largest number of episodes in play.
        self.places = max(1, min(experiment.settings.episodes_in_flight, wanted))

    async def join(self, worker: int) -> str:
        """Register a worker that starts. Each worker has a different number.

        Returns the id of the runs over the results file (see Store.run_id).
        """
        self._in_play[worker] = set()
        return self._ledger.run_id

    async def share(self) -> int:
        """Return how many episodes each worker may play now."""
        return math.ceil(self.places / max(1, len(self._in_play)))

    async def leave(self, worker: int, died: bool = False) -> int:
        """Take back the episodes of a worker that has ended.

        Returns a count that grows with each stored reply and each episode that has ended.
        """
        for episode in self._in_play.pop(worker, ()):
            await self._drop(episode)
        self._outages.pop(worker, None)
        self._progress.lost += died
        return self._recorded

    async def list_workers(self) -> frozenset[int]:
        """Return the workers that have joined and have not left."""
        return frozenset(self._in_play)

    async def take(self, worker: int) -> EpisodeSpec | float | None:
        """Return the next episode for a worker.

        None: none is left, the run has stopped, the worker has its share in play, or it counts as
        dead. A number: other processes play all that is left. Ask again after this many seconds,
        because they may die.
        """
        if len(self._in_play.get(worker, range(self.places))) >= await self.share():
            return None
        while not (self._progress.stopped or self._progress.enough):
            if spec := self._queue.take():
                if away := self._find_models(spec) & self._away.keys():
                    self._queue.end(spec.episode)
                    self._progress.open[self._away[min(away)]] += 1
                elif await self._ledger.begin(spec.episode):
                    self._in_play[worker].add(spec.episode)
                    return spec
                else:
                    self._queue.end(spec.episode)
                    await self._pass_over(spec)
            elif self._pairing and (batch := self._pairing.next()):
                for spec in batch:
                    self._queue.add(spec)
            elif not self._elsewhere:
                return None
            elif not await self._look_again():
                return _PAUSE
        return None

    async def has_waiting(self) -> bool:
        """Return whether an episode waits to be played in this run."""
        over = self._progress.stopped or self._progress.enough
        return not over and not (self._queue.is_empty and not self._elsewhere)

    async def _pass_over(self, spec: EpisodeSpec) -> None:
        """Note an episode that another process plays or has ended."""
        status = await self._ledger.status(spec.episode)
        if status in (None, "failed"):
            self._elsewhere[spec.episode] = spec
        else:
            self._progress.episodes[status] += 1
            self._progress.others += 1
            self._progress.done += self._expected_moves(spec)

    async def _look_again(self) -> bool:
        """Return whether an episode of another process can be played here now."""
        if (now := time.monotonic()) < self._looked + _PAUSE:
            return False
        self._looked = now
        found = False
        for episode, spec in list(self._elsewhere.items()):
            if await self._ledger.begin(episode):  # its process has died or has failed
                await self._ledger.drop(episode)
                self._queue.add(spec)
                found = True
            elif await self._ledger.status(episode) in (None, "failed"):
                continue  # still in play
            else:
                await self._pass_over(spec)
            del self._elsewhere[episode]
        return found

    async def recall(self, key: CallKey, request: str, model: str) -> ModelReply | None:
        """See Ledger.recall."""
        return await self._ledger.recall(key, request, model)

    async def record(self, key: CallKey, request: str, reply: ModelReply) -> ModelReply:
        """See Ledger.record."""
        self._calls[key.episode] += 1
        self._recorded += 1
        return await self._ledger.record(key, request, reply)

    async def failed(
        self, key: CallKey, request: str, error: ArenaError, final: bool = True
    ) -> None:
        """See Ledger.failed."""
        await self._ledger.failed(key, request, error, final)

    async def finish(self, row: EpisodeRow, moves: Sequence[MoveRow]) -> None:
        """Store an episode that has ended.

        Does nothing if another worker has the episode now, because this one seemed to be dead.
        """
        if (spec := self._end(row.episode)) is None:
            return
        self._recorded += 1
        await self._ledger.finish(row, moves)
        progress = self._progress
        progress.episodes[row.status] += 1
        progress.done += self._expected_moves(spec)
        del self._calls[row.episode]
        if row.status == "failed":
            self._failed[row.episode] = _SEAT.sub("", row.reason or "")
            progress.failures[_SEAT.sub("", row.reason or "")] += 1
        answers = [move.status for move in moves if move.model]
        progress.answers += len(answers)
        progress.illegal += len(answers) - answers.count("ok")
        if self._rule is not None:
            ended = self._rule.describe(row, moves)
            self._rule.add(ended)
            if self._pairing is not None:
                self._pairing.add(ended)
            progress.enough = progress.enough or self._rule.look()

    async def leave_open(self, episode: str, model: str, reason: str) -> None:
        """Give up an episode of a model that is not available, and start no others of it."""
        if self._end(episode) is not None:
            self._away.setdefault(model, reason)
            self._progress.open[self._away[model]] += 1
            await self._ledger.drop(episode)

    async def note_outages(self, worker: int, outages: Mapping[str, Outage]) -> None:
        """Note for which models a worker waits."""
        self._outages[worker] = outages

    async def stop(self, episode: str, reason: str, remedy: str) -> None:
        """Start no more episodes, because of the reason that ended this one."""
        self._progress.stopped, self._progress.remedy = reason, remedy
        self._forget(episode)
        await self._drop(episode)

    async def note_refused(self, refused: Mapping[str, str]) -> None:
        """Note which nodes of a cluster get no episodes, and why."""
        self._progress.refused = refused

    async def settle(self) -> None:
        """Recount the episodes that failed here: another process may have ended them since."""
        for episode, reason in self._failed.items():
            if (status := await self._ledger.status(episode)) not in (None, "failed"):
                progress = self._progress
                progress.episodes["failed"] -= 1
                progress.episodes[status] += 1
                progress.others += 1
                progress.failures[reason] -= 1
                self._failed[episode] = ""
        self._progress.episodes += Counter()  # without zeros
        self._progress.failures += Counter()

    async def progress(self) -> RunProgress:
        """Return a copy of the present counts."""
        now, playing, spent = self._progress, self._queue.taken, self._ledger.spent
        budget, budget_key = self._budget.used(spent)
        moves_in_play = sum(
            min(self._calls[episode], self._expected_moves(spec))
            for episode, spec in playing.items()
        )
        return replace(
            now,
            episodes=now.episodes.copy(),
            failures=now.failures.copy(),
            open=now.open.copy(),
            waiting={
                model: found
                for outages in self._outages.values()
                for model, found in outages.items()
            },
            playing=len(playing),
            elsewhere=len(self._elsewhere),
            spent=spent,
            budget=budget,
            budget_key=budget_key,
            done=now.done + moves_in_play,
        )

    async def close(self) -> None:
        """Close the results. The last process leaves a single file."""
        self._files.close()

    def _end(self, episode: str) -> EpisodeSpec | None:
        self._forget(episode)
        return self._queue.end(episode)

    def _forget(self, episode: str) -> None:
        for episodes in self._in_play.values():
            episodes.discard(episode)

    async def _drop(self, episode: str) -> None:
        self._queue.put_back(episode)
        await self._ledger.drop(episode)

    def _find_models(self, spec: EpisodeSpec) -> frozenset[str]:
        if (models := self._lineups.get(spec.agents)) is None:
            models = frozenset(self._models[one] for one in spec.agents if one in self._models)
            self._lineups[spec.agents] = models
        return models

    def _expected_moves(self, spec: EpisodeSpec) -> float:
        """Return the number of moves that models would make if they played at random."""
        if (expected := self._moves.get((spec.game, spec.agents))) is None:
            moves = self._playouts.get(spec.game.partition("(")[0], UNKNOWN_PLAYOUT).moves
            seats = sum(agent in self._models for agent in spec.agents)
            expected = moves * seats / len(spec.agents)
            self._moves[spec.game, spec.agents] = expected
        return expected
