"""A separate network in which only loopback is up: what runs in it reaches nothing else."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from typing import Self

from tests.support.guard import kill_at_exit

UNSHARE = ("unshare", "--user", "--map-root-user", "--net")


@cache
def can_isolate() -> bool:
    """Whether this machine lets a process have a network of its own."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return not subprocess.run([*UNSHARE, "true"], capture_output=True).returncode


class LoopbackNetwork:
    """The network, for the time of the block. `command` makes a command line that runs in it."""

    def __enter__(self) -> Self:
        script = "ip link set lo up && echo up && exec cat"
        self._holder = subprocess.Popen(
            [*UNSHARE, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._guard = kill_at_exit(self._holder.pid)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "up\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.cancel()
        with self._holder:  # closes its pipes, and waits for it
            self._holder.kill()

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the command line that runs these words in the network."""
        pid = str(self._holder.pid)
        return ["nsenter", "--target", pid, "--user", "--net", "--preserve-credentials", *words]
