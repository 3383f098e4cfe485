"""A folder for what the engines leave behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "arena-vllm-"


class Scratch:
    """A temporary folder that goes with its process: at its end, or, where it has been
    killed, when the next one makes its own. flock(2), which ends with the process, tells
    whether a folder is in use.
    """

    def __init__(self) -> None:
        for orphan in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            if (lock := _locked(orphan)) is not None:
                _remove(orphan, lock)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            lock = _locked(self.path)
            # Another process may have taken it for an orphan before it was locked.
            if lock is not None and self.path.exists():
                self._lock = lock
                return

    def close(self) -> None:
        """Remove it and what is in it."""
        _remove(self.path, self._lock)


def _remove(folder: Path, lock: int) -> None:
    # An engine that is just being killed may yet write there: the next start removes that.
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None where another's does, or it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # or another user's
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
