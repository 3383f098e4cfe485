"""Loads and plays untrusted games in a separate process.

Some parameters make OpenSpiel crash its process, never return, or take all memory. In the sandbox
this does not affect the calling process.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeVar

from arena.games.game import Game, GameError, find_path, needs_trial

#: Limit for one game, in seconds of CPU time: a busy machine does not change what is verified.
SECONDS = 30.0
#: The limit of elapsed time is this many times as long. It ends games that wait without computing.
_WALL = 10
#: Limit of the process's address space, in bytes.
MEMORY = 4 * 2**30
#: After this many games that ended the process, the sandbox refuses all other games.
_MAX_LOST = 3

_COMMAND = "import sys; sys.path[:] = sys.argv[4:]; from arena.games.sandbox import serve; serve()"


_Result = TypeVar("_Result")


class PlayResult(NamedTuple):
    """The position after a list of actions.

    problem: why the actions could not be played; then the other fields are empty.
    """

    problem: str = ""
    ended: bool = False
    returns: tuple[float, ...] = ()
    board: str | None = None


#: The actions of an episode: for each ply, the action of each seat that moved.
Plies = Sequence[Mapping[int, int]]


def play_actions(game: str, plies: Plies) -> PlayResult:
    """Load the game and play these actions from its start. Never raises."""
    try:
        state = _load(game).new()
        for actions in plies:
            state.apply(actions)
        return PlayResult("", state.is_terminal, state.returns(), state.board())
    except (GameError, ValueError) as error:
        return PlayResult(str(error))
    except Exception as error:  # OpenSpiel's games raise errors of many types
        return PlayResult(f"OpenSpiel failed: {type(error).__name__}: {error}")


@lru_cache(maxsize=64)
def _load(game: str) -> Game:
    return Game.load(game)


class Sandbox:
    """Runs functions that load or play a game in another process.

    The process starts with the first game and ends with `close`. seconds: limit of CPU time for
    one game. memory: limit of the process's address space, in bytes. own: dotted paths of games to
    import. The sandbox does not protect from these, so they must not come from a results file.
    wall: limit of elapsed time for one game, in seconds; by default ten times `seconds`.
    """

    def __init__(
        self,
        seconds: float = SECONDS,
        memory: int = MEMORY,
        *,
        own: Collection[str] = (),
        wall: float | None = None,
    ) -> None:
        self._seconds = seconds
        self._wall = seconds * _WALL if wall is None else wall
        self._memory = memory
        self._own = own
        self._lost: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, name: str, params: Mapping[str, Any]) -> Game:
        """Load a game in this process, after the sandbox has loaded it successfully.

        A game whose parameters are all known to be harmless is loaded without the sandbox.
        Raises GameError.
        """
        if spec := needs_trial(name, params):
            problem = self.play_actions(spec, []).problem
            if problem.startswith("game "):  # a GameError, which names the game already
                raise GameError(problem)
            if problem:
                raise GameError(f"game {spec}: {problem}")
        return Game.load(name, params)

    def play_actions(self, game: str, plies: Plies) -> PlayResult:
        """Call the function of this name in the sandbox. Never raises."""
        try:
            return self.call(play_actions, game, plies)
        except GameError as error:
            return PlayResult(str(error))

    def call(self, function: Callable[..., _Result], game: str, *arguments: Any) -> _Result:
        """Return function(game, *arguments), which runs in the sandbox and must not raise.

        function: defined in a module, so that it can be pickled. Raises GameError if it ends
        the process or takes too long; a game that did so is not tried again.
        """
        if (path := find_path(game)) and path not in self._own:
            raise GameError(
                f"game {game}: is not checked, because a results file may import nothing: name "
                "its experiment with --config"
            )
        if problem := self._lost.get(game):
            raise GameError(problem)
        if len(self._lost) == _MAX_LOST:
            raise GameError("not checked: OpenSpiel failed on too many games of this file")
        if self._process is None:
            self._start()
        try:
            self._connection.send((function, game, *arguments))
            if self._connection.poll(self._wall):
                result: _Result = self._connection.recv()
                return result
            problem = f"OpenSpiel took more than {self._wall:g} seconds"
            self.close()
        except (EOFError, OSError):
            problem = "OpenSpiel ended its process"
            if self.close() == -signal.SIGPROF:
                problem = f"OpenSpiel took more than {self._seconds:g} seconds of CPU time"
        self._lost[game] = problem
        raise GameError(problem)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # A new process and not a fork, because this process may have threads.
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter
                [
                    *(sys.executable, "-c", _COMMAND),
                    *(str(theirs.fileno()), str(self._memory), str(self._seconds), *sys.path),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._connection = Connection(ours.detach())

    def close(self) -> int | None:
        """End the process. Returns its exit code, which is the number of a signal below 0."""
        if self._process is None:
            return None
        self._connection.close()
        self._process.kill()
        code = self._process.wait()
        self._process = None
        return code


def serve() -> None:
    """Serve requests in the sandbox's process until the connection is closed."""
    descriptor, memory, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    for limit, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):  # macOS does not limit the address space
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # it ends the process
    connection = Connection(descriptor)
    with suppress(EOFError, OSError):
        while True:
            function, *arguments = connection.recv()
            signal.setitimer(signal.ITIMER_PROF, seconds)  # the process's CPU time
            result = function(*arguments)
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.send(result)
    os._exit(0)  # without cleanup: OpenSpiel may be in any state
