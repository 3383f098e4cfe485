"""Asks a model for the probability of each legal action at every information state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from arena.agents.base import Turn
from arena.agents.calls import ModelCall
from arena.agents.llm import LlmAgent
from arena.agents.settings import LlmSettings
from arena.experiment.ledger import Backend
from arena.games.game import Game
from arena.games.information import InformationState
from arena.results.rows import CallKey, ScoreRow, request_to_json


@dataclass(slots=True)
class PolicyCall:
    """A call, and all information states that need its answer.

    Several states can have one prompt, for example if the suit of a card does not matter.
    """

    call: ModelCall
    states: list[InformationState] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PolicyJob:
    """The calls for a player's missing scores in a game. version: of the player's prompts."""

    game: Game
    player: str
    version: str
    tasks: Sequence[PolicyCall]


def plan_scoring(
    game: Game,
    player: str,
    settings: LlmSettings,
    states: Sequence[InformationState],
    known: Collection[str] = (),
) -> PolicyJob:
    """Return the calls that are needed to score the states, in the order of the states.

    known: keys of states that have their scores. Raises ValueError for settings with which an
    answer also depends on how the game was played.
    """
    if settings.prompt and settings.prompt.conversation:
        raise ValueError("prompt.conversation: the probabilities depend on earlier replies")
    agent, tasks = LlmAgent(settings), dict[str, PolicyCall]()
    for state in states:
        if state.key not in known:
            call = agent.make_call(_make_turn(game, state))
            tasks.setdefault(request_to_json(call), PolicyCall(call)).states.append(state)
    return PolicyJob(game, player, LlmAgent.version(settings, game), list(tasks.values()))


async def score(job: PolicyJob, backend: Backend, width: int) -> AsyncIterator[list[ScoreRow]]:
    """Make the calls, `width` at the same time, so that an engine can run them together.

    The first call is made alone, so that engines then have the rules in their caches: all prompts
    begin with them. Yields the rows of each answer when it arrives. Raises what the backend raises.
    """
    waiting = iter(job.tasks)
    running: set[asyncio.Task[list[ScoreRow]]] = set()
    allowed = 1
    try:
        while True:
            while len(running) < allowed and (task := next(waiting, None)):
                running.add(asyncio.create_task(_score_task(job, task, backend)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for answered in done:
                yield answered.result()
            allowed = width
    finally:
        for left in running:
            left.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _score_task(job: PolicyJob, task: PolicyCall, backend: Backend) -> list[ScoreRow]:
    first = task.states[0]
    key = CallKey(f"{job.player} {job.game.spec} {first.key}", 0, first.seat, 0)
    reply = await backend(key, task.call, "")
    logprobs = reply.logprobs or ()
    return [
        ScoreRow(
            job.player,
            job.game.spec,
            job.version,
            state.key,
            tuple(zip(state.state.raw.legal_actions(state.seat), logprobs, strict=True)),
        )
        for state in task.states
    ]


def _make_turn(game: Game, state: InformationState) -> Turn:
    """The seed may shuffle the legal actions, so it depends only on what the seat knows."""
    digest = blake2b(state.key.encode(), digest_size=8).digest()
    legal = state.state.legal_actions(state.seat)
    ply = len(state.state.history)
    return Turn(game, state.state, state.seat, ply, legal, int.from_bytes(digest) >> 1)
