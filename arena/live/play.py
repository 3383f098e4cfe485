"""Games of a person in the browser against a model or a built-in opponent."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from arena.environments.core import GameEnvironment, Request, Result
from arena.games.game import Game
from arena.games.text import measured_playouts
from arena.live.feed import LiveFeed
from arena.live.follow import list_moves
from arena_llm import ArenaError, AsyncClient, Message

#: The opponents that need no model, as in an experiment.
OPPONENTS: Mapping[str, Mapping[str, Any]] = {
    "random": {"type": "random"},
    "minimax": {"type": "minimax", "depth": 4},
    "mcts": {"type": "mcts"},
}
#: A model that gives no legal answer must not end a person's game.
_LEARNER = {"on_illegal": "retry 2 then random"}

#: OpenGames at the same time.
MAX_GAMES = 16
#: Seconds without a reader and without an action until a game ends.
_IDLE_SECONDS = 900.0
#: A person does not want to play longer games.
_MAX_PLIES = 1_000


class PlayError(ValueError):
    """A game or an action is refused. status: the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@cache
def list_games() -> Mapping[str, Game]:
    """Return the games with rules in the arena's own words, by name."""
    return {name: Game.load(name) for name in sorted(measured_playouts())}


class LiveGame:
    """One game of a person. feed: what the person sees."""

    def __init__(
        self, client: AsyncClient, game: str, seat: int, opponent: str, *, model: bool
    ) -> None:
        """Raises ValueError for a wrong game, seat or opponent, with the reason."""
        known = list_games().get(game)
        if known is None:
            raise PlayError(f"{game!r} is not among the games")
        if not 0 <= seat < known.players:
            raise PlayError(f"{game} has the seats 0 to {known.players - 1}")
        if not model and opponent not in OPPONENTS:
            raise PlayError(f"the opponent must be one of {', '.join(OPPONENTS)}, not {opponent!r}")
        others = [other for other in range(known.players) if other != seat]
        self._environment = GameEnvironment(
            game,
            opponents={} if model else dict.fromkeys(others, OPPONENTS[opponent]),
            learner=_LEARNER,
            max_plies=_MAX_PLIES,
        )
        self._client = client
        self._seat = seat
        self._model = opponent
        self._asked: asyncio.Future[int] | None = None
        self._request = 0
        self._before: str | None = None
        self._board: str | None = None
        self.touched = time.monotonic()
        names = ["you" if one == seat else opponent for one in range(known.players)]
        rules = {"title": known.title, "rules": known.text.rules}
        self.feed = LiveFeed({"game": game, **rules, "agents": names, "status": "starting"})
        self._task = asyncio.create_task(self._run())

    @property
    def is_idle(self) -> bool:
        """Whether no browser has shown the game for _IDLE_SECONDS."""
        return not self.feed.readers and time.monotonic() - self.touched > _IDLE_SECONDS

    def act(self, action: int, request: int) -> None:
        """Play an action of the person. request: the number of the turn that the person saw.

        Raises PlayError if it is not that turn any more, or the action is not legal.
        """
        self.touched = time.monotonic()
        asked = self._asked
        if asked is None or asked.done() or request != self._request:
            raise PlayError("it is not your turn any more", 409)
        if action not in [one["action"] for one in self.feed.value["legal"]]:
            raise PlayError(f"{action} is not legal", 409)
        self._show(status="waiting")
        asked.set_result(action)

    async def close(self) -> None:
        """End it."""
        self.feed.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._environment.close()

    async def _run(self) -> None:
        try:
            now = await self._environment.reset(secrets.randbits(63))
            while isinstance(now, Request):
                if now.seat == self._seat:
                    now = await self._ask_person(now)
                else:
                    now = await self._ask_model(now)
            self._show_end(now)
        except ArenaError as error:
            self._show(status="ended", problem=f"{error.code}: {error}")
        except Exception as error:  # OpenSpiel's games raise errors of many types
            self._show(status="ended", problem=f"{type(error).__name__}: {error}")

    async def _ask_person(self, request: Request) -> Request | Result:
        self._request += 1
        self._asked = asyncio.get_running_loop().create_future()
        text, state = self._environment.game.text, request.turn.state
        legal = [
            {
                "action": one.action,
                "text": one.text,
                "note": text.note(state, request.seat, one),
            }
            for one in request.legal
        ]
        self._show_position()
        self._show(status="your turn", legal=legal, request=self._request)
        return await self._environment.play(await self._asked)

    async def _ask_model(self, request: Request) -> Request | Result:
        self._show_position()
        self._show(status="waiting")
        messages: Sequence[Message] = [
            Message(role, content)  # type: ignore[arg-type]  # the arena's prompts know the roles
            for role, content in request.messages
        ]
        completion = await self._client.generate(self._model, messages=messages)
        return await self._environment.answer(completion.text)

    def _show(self, **changes: Any) -> None:
        self.feed.set({**self.feed.value, "legal": [], **changes})

    def _show_position(self) -> None:
        """Show what the person may see: with hidden information, the text for the person's seat."""
        game, state = self._environment.game, self._environment.state
        if game.perfect_information and not game.simultaneous:
            self._show_board(state.board())
            self._show(moves=list_moves(state))
        else:
            self._show_board(game.text.position(state, self._seat))

    def _show_board(self, board: str) -> None:
        if board != self._board:
            self._before, self._board = self._board, board
        self._show(board=board, before=self._before)

    def _show_end(self, result: Result) -> None:
        state = self._environment.state
        self._show_board(state.board())
        self._show(
            moves=list_moves(state),
            status="ended",
            problem=result.episode.reason or "",
            returns=list(result.rewards),
        )


class OpenGames:
    """The open games, by random ids that cannot be guessed."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._games: dict[str, LiveGame] = {}

    async def start(self, game: str, seat: int, opponent: str, *, model: bool) -> str:
        """Start a game; return its id. Raises ValueError."""
        for name in [name for name, one in self._games.items() if one.is_idle]:
            await self._games.pop(name).close()
        if len(self._games) >= MAX_GAMES:
            unread = [name for name, one in self._games.items() if not one.feed.readers]
            if not unread:
                raise PlayError("too many games are open: close other pages", 503)
            oldest = min(unread, key=lambda name: self._games[name].touched)
            await self._games.pop(oldest).close()
        name = secrets.token_urlsafe(16)
        self._games[name] = LiveGame(self._client, game, seat, opponent, model=model)
        return name

    def find(self, name: str) -> LiveGame:
        """Return a game. Raises PlayError if there is none."""
        if (game := self._games.get(name)) is None:
            raise PlayError("this game is not open any more", 404)
        game.touched = time.monotonic()
        return game

    async def close(self) -> None:
        """End all games."""
        games, self._games = self._games, {}
        for game in games.values():
            await game.close()
