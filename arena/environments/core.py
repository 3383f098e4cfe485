"""A game that another program plays, turn by turn, with the arena's prompts, readers and opponents.

The arena's own episodes and these run the same code (`play_episode`), so a policy that was trained
here is measured under the same conditions by `arena run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arena.agents.base import Turn
from arena.agents.calls import Ask, ModelCall, ModelReply
from arena.agents.llm import LlmAgent
from arena.agents.prompt import Messages, write_reply
from arena.agents.registry import find_agent
from arena.agents.settings import LlmSettings
from arena.experiment.episode import Seat, play_episode
from arena.experiment.schedule import EpisodeSpec
from arena.games.game import Game, GameError, LegalAction, State
from arena.results.rows import CallKey, EpisodeRow, MoveRow

_Played = tuple[EpisodeRow, list[MoveRow]]

#: Stands for the model's name where the program itself answers.
_LEARNER = "learner"

#: The settings of an experiment's player that decide how a learner is prompted and read.
LEARNER_KEYS = ("reply", "reader", "prompt", "system", "on_illegal")


@dataclass(frozen=True, slots=True)
class Request:
    """A turn that waits for the program's answer.

    seat: from 0. messages: pairs of role and content; after an illegal answer they contain it and
    the reason. legal: the actions. attempt: 0, and one more after each illegal answer.
    """

    seat: int
    messages: Messages
    legal: tuple[LegalAction, ...]
    turn: Turn
    attempt: int


@dataclass(frozen=True, slots=True)
class Result:
    """The end of an episode.

    rewards: of each seat: its return; the lowest of the game if it forfeited, and 0 if another
    seat did. episode, moves: as `arena run` stores them.
    """

    rewards: tuple[float, ...]
    episode: EpisodeRow
    moves: Sequence[MoveRow]


class GameEnvironment:
    """One game. `reset` starts an episode, `answer` continues it; both return what comes next.

    Objects stay with the event loop that used them first. Close the environment to end an
    unfinished episode.
    """

    def __init__(
        self,
        game: str,
        *,
        params: Mapping[str, Any] | None = None,
        opponents: Mapping[int, Mapping[str, Any]] | None = None,
        learner: Mapping[str, Any] | None = None,
        max_plies: int | None = None,
    ) -> None:
        """Raises GameError, and ValueError for wrong settings.

        game, params: as in an experiment. opponents: the settings of the seats that the arena
        plays, by seat, such as {1: {"type": "minimax"}}. They cannot be models: the program plays
        all other seats, and may ask a model. learner: how its seats are prompted and read, see
        LEARNER_KEYS. max_plies: the episode is truncated after this many; None: no limit.
        """
        self.game = Game.load(game, params)
        unknown = set(learner or {}) - set(LEARNER_KEYS)
        if unknown:
            raise ValueError(f"learner: {sorted(unknown)} are not among {', '.join(LEARNER_KEYS)}")
        settings = LlmSettings(type="llm", model=_LEARNER, **(learner or {}))
        if settings.reply == "score":
            raise ValueError("learner.reply: score needs a model's probabilities, not an answer")
        LlmAgent.check_game(settings, self.game)
        self.settings = settings
        self._opponents = {
            seat: self._check_opponent(seat, values) for seat, values in (opponents or {}).items()
        }
        self.learners = tuple(s for s in range(self.game.players) if s not in self._opponents)
        if not self.learners:
            raise ValueError("opponents: at least one seat must be left to the program")
        self._max_plies = max_plies
        self._task: asyncio.Task[_Played] | None = None
        self._waiting: asyncio.Queue[tuple[Request, asyncio.Future[str]]] = asyncio.Queue()
        self._answer: asyncio.Future[str] | None = None
        self._request: Request | None = None
        self._state: State | None = None

    def _check_opponent(self, seat: int, values: Mapping[str, Any]) -> tuple[type[Any], Any]:
        if not 0 <= seat < self.game.players:
            raise ValueError(f"opponents: {self.game.name} has no seat {seat}")
        kind = find_agent(values.get("type"))
        if issubclass(kind, LlmAgent):
            raise ValueError(
                f"opponents: seat {seat} is a model: leave the seat to the program, and let it ask "
                "that model"
            )
        settings = kind.Settings(**values)
        kind.check_game(settings, self.game)
        return kind, settings

    async def reset(self, seed: int) -> Request | Result:
        """Start an episode. The same seed gives the same deal, and opponents that play alike."""
        await self.close()
        names = tuple(
            f"player_{seat}" if seat in self.learners else f"opponent_{seat}"
            for seat in range(self.game.players)
        )
        spec = EpisodeSpec(
            f"{self.game.spec}/{seed}", self.game.spec, 0, names, seed, self._max_plies
        )
        seats = []
        for seat in range(self.game.players):
            kind, settings = self._opponents.get(seat, (_Learner, self.settings))
            agent = kind(settings)
            if isinstance(agent, _Learner):
                agent.put = self._waiting.put
            seats.append(Seat(agent, settings.policy))
        self._task = asyncio.create_task(play_episode(spec, self.game, seats, _refuse_models))
        return await self._continue(self._task)

    async def answer(self, text: str) -> Request | Result:
        """Answer the request with a reply, as a model would write it."""
        if self._answer is None or self._task is None:
            raise ValueError("no turn waits for an answer: the episode has ended; call reset")
        self._answer.set_result(text)
        return await self._continue(self._task)

    async def play(self, action: int) -> Request | Result:
        """Answer the request with a legal action. Raises ValueError if it is not legal."""
        if self._request is None:
            raise ValueError("no turn waits for an action: the episode has ended; call reset")
        chosen = next((one for one in self._request.legal if one.action == action), None)
        if chosen is None:
            legal = [one.action for one in self._request.legal]
            raise ValueError(f"{action} is not legal for seat {self._request.seat}: {legal}")
        return await self.answer(write_reply(chosen, self.settings.reply))

    @property
    def state(self) -> State:
        """The position. Raises ValueError before the first `reset`."""
        if self._state is None:
            raise ValueError("there is no position yet: call reset")
        return self._state

    async def close(self) -> None:
        """End an unfinished episode."""
        task, self._task = self._task, None
        self._answer = self._request = None
        self._waiting = asyncio.Queue()
        if task is not None and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _continue(self, task: asyncio.Task[_Played]) -> Request | Result:
        """Wait until the program has to answer, or the episode ends."""
        self._answer = self._request = None
        waiting = asyncio.ensure_future(self._waiting.get())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            self._request, self._answer = waiting.result()
            self._state = self._request.turn.state
            return self._request
        waiting.cancel()
        episode, moves = task.result()
        return Result(self._reward(episode), episode, moves)

    def _reward(self, episode: EpisodeRow) -> tuple[float, ...]:
        if episode.returns is not None:
            return episode.returns
        lowest = float(self.game.raw.min_utility())
        return tuple(
            lowest if episode.loser in (seat, None) else 0.0 for seat in range(self.game.players)
        )


class _Learner(LlmAgent):
    """A language model whose replies another program writes."""

    put: Any

    async def act(self, turn: Turn, before: Sequence[Any], ask: Ask) -> Any:
        async def wait(call: ModelCall) -> ModelReply:
            answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            request = Request(turn.seat, call.messages, turn.legal, turn, len(before))
            await self.put((request, answer))
            return ModelReply(await answer, _LEARNER, 0.0)

        return await super().act(turn, before, wait)


def _refuse_models(key: CallKey) -> Ask:
    async def refuse(call: ModelCall) -> ModelReply:
        raise GameError(f"{key.seat}: no opponent may ask a model here")

    return refuse
