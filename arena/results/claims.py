"""Lets several processes share a results file, by locks on single bytes of a lock file.

Every process that has the results open holds a shared lock on byte 0. To play an episode, a
process takes an exclusive lock on a byte that is chosen by the episode's id. The operating system
releases the locks of a process that dies, so that another process can play its episodes. A process
that closes the file releases byte 0 and then tries to lock it exclusively. This succeeds only in
the last process, which rewrites the results in canonical form and deletes the lock file. SQLite's
own locks protect single transactions. These locks work on a local disk only.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

#: The byte with the shared lock of every process that has the results open.
_PRESENCE = 0


class Claims:
    """A process's locks on the lock file.

    A process may have only one Claims object for a file, because the locks belong to the process.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the lock file. Waits while the last process rewrites the results.

        Raises OSError.
        """
        self._path = path
        while True:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.lockf(self._file, fcntl.LOCK_SH, 1, _PRESENCE)
            if self._is_current():
                return
            os.close(self._file)

    def _is_current(self) -> bool:
        """Whether the path still leads to our file, which another process may have replaced."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path))
        except FileNotFoundError:
            return False

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Yields whether no other process has the results open. None can open them meanwhile."""
        alone = self._lock(_PRESENCE)
        try:
            yield alone
        finally:
            if alone:
                fcntl.lockf(self._file, fcntl.LOCK_SH, 1, _PRESENCE)

    def take(self, episode: str) -> bool:
        """Claim an episode; False if another process has claimed it."""
        return self._lock(_choose_byte(episode))

    def release(self, episode: str) -> None:
        """Give up the claim of an episode."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _choose_byte(episode))

    @contextmanager
    def leave(self) -> Iterator[bool]:
        """Release all locks. Yields True in the last process; new ones wait until its block ends.

        Call it once: a second call could keep another process from being the last one.
        """
        try:
            # Release the shared lock first, so that one of two leaving processes is the last.
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _PRESENCE)
            last = self._lock(_PRESENCE)
            try:
                yield last
            finally:
                if last:
                    self._path.unlink(missing_ok=True)
        finally:
            os.close(self._file)

    def _lock(self, byte: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except BlockingIOError:
            return False
        return True


def _choose_byte(episode: str) -> int:
    """Return the byte of an episode. It is beyond the end of any file, which locks allow."""
    return 1 + (int.from_bytes(blake2b(episode.encode(), digest_size=8).digest()) >> 2)
