"""The processes of the engines: their files, the detection of hangs, and killing them."""

from __future__ import annotations

import fcntl
import itertools
import multiprocessing
import os
import shutil
import signal
import tempfile
from multiprocessing import resource_tracker
from pathlib import Path


class ScratchFolder:
    """A temporary folder for the engines' files, removed when this process ends.

    The next process removes the folder of a killed one. flock(2), which ends with its process,
    shows whether a folder is in use.
    """

    _PREFIX = "arena-vllm-"

    def __init__(self) -> None:
        for orphan in Path(tempfile.gettempdir()).glob(f"{self._PREFIX}*"):
            if (lock := _lock(orphan)) is not None:
                _remove(orphan, lock)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=self._PREFIX))
            lock = _lock(self.path)
            # Another process may have taken it for an orphan before it was locked.
            if lock is not None and self.path.exists():
                self._lock = lock
                self._folders = itertools.count(1)
                return

    def make_folder(self) -> Path:
        """A new folder in it, for the files of one start of an engine.

        Its name is short, because the path of a socket has at most 107 bytes.
        """
        folder = self.path / str(next(self._folders))
        folder.mkdir()
        return folder

    def close(self) -> None:
        """Remove the folder and everything in it."""
        _remove(self.path, self._lock)


def remove_folder(folder: Path) -> None:
    """Remove a folder of an engine, which may still write there while it is being killed."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_memory(prefix: str) -> None:
    """Remove the shared memory whose names begin with `prefix`, of an engine that has ended."""
    for path in Path("/dev/shm").glob(f"{prefix}*"):  # noqa: S108 - where Linux shows it
        path.unlink(missing_ok=True)
        # Otherwise the tracker, which all processes of the service share, misses it at the end.
        resource_tracker.unregister(f"/{path.name}", "shared_memory")


def _remove(folder: Path, lock: int) -> None:
    remove_folder(folder)
    os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder. Returns the descriptor; None if it is locked, gone, or another user's."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


class Watchdog:
    """Counts consecutive checks at which an engine had requests and had made no step.

    Slow work does not count as a hang: the engine reports each step, whether or not it yields
    a token. A long prefill takes many steps, and preemption and the compilation of a grammar
    also report steps. Starting, and loading an adapter, are not requests. Checks are counted
    instead of seconds, because this process makes no checks while it is stopped or has no CPU.
    A single step must be shorter than `patience`.
    """

    def __init__(self, patience: float, interval: float) -> None:
        """patience: seconds without a step. interval: seconds between two checks."""
        self._limit = max(1, round(patience / interval))
        self._idle_checks = 0
        self._steps = 0

    def hangs(self, requests: int, steps: int) -> bool:
        """Record a check. Returns True if the engine hangs.

        requests: unfinished requests. steps: all steps that the engine has ever reported. An
        engine without requests is not hung, but idle time does not reset the count: callers
        may time out and be replaced by new ones.
        """
        if steps != self._steps:
            self._steps, self._idle_checks = steps, 0
        elif requests:
            self._idle_checks += 1
        return self._idle_checks >= self._limit


def kill_starting_engines() -> None:
    """Kill the processes of engines that are still starting. Their starts then fail."""
    for core in multiprocessing.active_children():
        if core.pid is None:  # never true of a child that was started
            continue
        try:
            os.killpg(core.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not made its process group yet
            core.kill()
