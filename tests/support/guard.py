"""Clean up after a test process that was killed."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

#: Kept until this process ends, because a forgotten Popen object warns when it is deleted.
_guards: list[Guard] = []


class Guard:
    """Runs a command of the shell when this process ends, unless it is cancelled before.

    The guard is a shell that reads a pipe. The pipe closes when this process ends, even by
    SIGKILL. It runs in its own session, so that Ctrl-C does not end it.
    """

    def __init__(self, command: str, environ: Mapping[str, str] | None = None) -> None:
        self._shell = subprocess.Popen(
            ["sh", "-c", f"cat >/dev/null; {command}"], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environ, start_new_session=True,
        )  # fmt: skip
        _guards.append(self)

    def cancel(self) -> None:
        """Run nothing. May be called again."""
        self._shell.kill()
        self._shell.wait()
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        if self in _guards:
            _guards.remove(self)


def kill_at_exit(pid: int) -> Guard:
    """Kill a process when this process ends."""
    return Guard(f"kill -9 {pid}")
