"""The ledger of a run, which also deals the episodes out and counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from arena.agents.calls import ModelReply
from arena.experiment.ledger import Ledger
from arena.experiment.recording import Recorder
from arena.experiment.schedule import EpisodeSpec, schedule
from arena.games.text import UNKNOWN_PLAYOUT, measured_playouts
from arena.results.rows import CallKey, EpisodeRow, MoveRow
from arena.results.store import Store
from arena.runners.job import Job
from arena.runners.queue import FairQueue
from arena.runners.tally import Tally

_SEAT = re.compile(r"\bseat \d+: ")


class Desk(Ledger):
    """Where workers get episodes and bring replies and rows: one for a run.

    Workers are numbered. One that comes again has died on the way: what it played is
    dealt anew, and its replies are recalled.
    """

    def __init__(self, job: Job) -> None:
        """Open the results. Raises ResultsError, RecordingError."""
        experiment = job.experiment
        with ExitStack() as files:
            recorder = files.enter_context(Recorder(job.record)) if job.record else None
            store = files.enter_context(Store(job.results, experiment.row, experiment.models))
            super().__init__(store, experiment.budget, recorder)
            self._files = files.pop_all()
        self._limits = experiment.budget
        self._models = {row.agent: row.model for row in experiment.models if row.model}
        specs = schedule(experiment)
        statuses = store.statuses()
        ended = Counter(status for status in statuses.values() if status != "failed")
        missing = [spec for spec in specs if statuses.get(spec.episode) in (None, "failed")]
        # Long games first: begun last, they would be waited for alone.
        missing.sort(key=self._moves, reverse=True)
        self._queue = FairQueue(missing, self._asked)
        self._dealt: dict[int, set[str]] = {}
        self._calls: Counter[str] = Counter()
        self._tally = Tally(len(specs), ended, work=sum(map(self._moves, missing)))

    async def join(self, worker: int) -> None:
        """A worker begins, or begins again."""
        if worker in self._dealt:
            self._tally.lost += 1
        for episode in self._dealt.get(worker, ()):
            if episode in self._queue.taken:
                await self.drop(episode)
        self._dealt[worker] = set()

    async def take(self, worker: int) -> EpisodeSpec | None:
        """The next episode to play; None if there is none, or is to be none."""
        while not self._tally.stopped and (spec := self._queue.take()):
            if await self.begin(spec.episode):
                self._dealt[worker].add(spec.episode)
                return spec
            self._queue.end(spec.episode)
        return None

    async def stop(self, episode: str, reason: str) -> None:
        """An episode cannot go on, for a reason that holds for all."""
        self._tally.stopped = reason
        await self.drop(episode)

    async def drop(self, episode: str) -> None:
        self._queue.put_back(episode)
        await super().drop(episode)

    async def record(self, key: CallKey, request: str, reply: ModelReply) -> ModelReply:
        self._calls[key.episode] += 1
        return await super().record(key, request, reply)

    async def finish(self, row: EpisodeRow, moves: Sequence[MoveRow]) -> None:
        if (spec := self._queue.end(row.episode)) is None:
            return  # it comes from a worker that was taken for dead
        await super().finish(row, moves)
        tally = self._tally
        tally.episodes[row.status] += 1
        tally.done += self._moves(spec)
        del self._calls[row.episode]
        if row.status == "failed":
            tally.failures[_SEAT.sub("", row.reason or "")] += 1
        answers = [move.status for move in moves if move.model]
        tally.answers += len(answers)
        tally.illegal += len(answers) - answers.count("ok")

    async def tally(self) -> Tally:
        """A copy of the counts, as they are now."""
        now, playing = self._tally, self._queue.taken
        budget, budget_key = self._limits.used(self.spent)
        under_way = sum(min(self._calls[one], self._moves(spec)) for one, spec in playing.items())
        return replace(
            now,
            episodes=now.episodes.copy(),
            failures=now.failures.copy(),
            playing=len(playing),
            tokens=self.spent.tokens,
            cost_usd=self.spent.cost_usd,
            budget=budget,
            budget_key=budget_key,
            done=now.done + under_way,
        )

    async def close(self) -> None:
        """Close the results; the last process leaves them in canonical form."""
        self._files.close()

    def _asked(self, spec: EpisodeSpec) -> frozenset[str]:
        """The models that an episode asks."""
        return frozenset(self._models[agent] for agent in spec.agents if agent in self._models)

    def _moves(self, spec: EpisodeSpec) -> float:
        """The moves that models are expected to make, as random players do."""
        moves = measured_playouts().get(spec.game.partition("(")[0], UNKNOWN_PLAYOUT).moves
        seats = sum(agent in self._models for agent in spec.agents)
        return moves * seats / len(spec.agents)
