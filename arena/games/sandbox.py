"""Tries a stranger's games in a process of its own.

With some parameters OpenSpiel ends its process, never returns, or takes all memory. That
must not happen to the process that asks.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from arena.games.game import Game, GameError, needs_trial

#: Seconds for one game.
SECONDS = 30.0
#: Bytes of the process's address space.
_MEMORY = 4 * 2**30
#: After so many games that ended the process no other is played.
_MOST_LOST = 3

_COMMAND = "import sys; sys.path[:] = sys.argv[2:]; from arena.games.sandbox import serve; serve()"


class Outcome(NamedTuple):
    """Where a game's actions lead. problem: why that is unknown; then the rest is empty."""

    problem: str = ""
    ended: bool = False
    returns: tuple[float, ...] = ()
    board: str | None = None


#: The actions of a game by ply, and of each ply by seat.
Plies = Sequence[Mapping[int, int]]


def outcome_of(game: str, plies: Plies) -> Outcome:
    """Play these actions. Never raises."""
    try:
        state = _load(game).new()
        for actions in plies:
            state.apply(actions)
        return Outcome("", state.is_terminal, state.returns(), state.board())
    except (GameError, ValueError) as error:
        return Outcome(str(error))
    except Exception as error:  # OpenSpiel's games raise whatever they come across
        return Outcome(f"OpenSpiel failed: {type(error).__name__}: {error}")


@lru_cache(maxsize=64)
def _load(game: str) -> Game:
    return Game.load(game)


class Sandbox:
    """`outcome_of` in another process, which starts with the first game and ends with `close`."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lost: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, name: str, params: Mapping[str, Any]) -> Game:
        """Load a game in this process, once the other process has loaded and begun it.

        Raises GameError.
        """
        if spec := needs_trial(name, params):
            problem = self.outcome_of(spec, []).problem
            named = problem.startswith("game ")  # GameError names the game itself
            if problem:
                raise GameError(problem if named else f"game {spec}: {problem}")
        return Game.load(name, params)

    def outcome_of(self, game: str, plies: Plies) -> Outcome:
        """As the function. A game that ended the process is not tried again."""
        if game in self._lost:
            return Outcome(self._lost[game])
        if len(self._lost) == _MOST_LOST:
            return Outcome("not checked: OpenSpiel failed on too many games of this file")
        if self._process is None:
            self._start()
        try:
            self._connection.send((game, plies))
            if self._connection.poll(self._seconds):
                outcome: Outcome = self._connection.recv()
                return outcome
            problem = f"OpenSpiel took more than {self._seconds:g} seconds"
        except (EOFError, OSError):
            problem = "OpenSpiel ended its process"
        self._lost[game] = problem
        self.close()
        return Outcome(problem)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # Not by fork: this process may have threads.
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
                [sys.executable, "-c", _COMMAND, str(theirs.fileno()), *sys.path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._connection = Connection(ours.detach())

    def close(self) -> None:
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.wait()
            self._process = None


def serve() -> None:
    """The other process: play what comes until nobody is there."""
    for limit, value in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):  # macOS does not bound the address space
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    connection = Connection(int(sys.argv[1]))
    with suppress(EOFError, OSError):
        while True:
            connection.send(outcome_of(*connection.recv()))
    os._exit(0)  # the other side has left
