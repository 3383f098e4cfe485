"""Which process plays which episode: byte locks of a file, which end with their process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

#: The byte on which every process that has the results open holds a shared lock.
_PRESENCE = 0


class Claims:
    """A lock file beside the results; the last process takes it away.

    The locks belong to the process: it may have one Claims of a file at a time.
    """

    def __init__(self, path: Path) -> None:
        """Waits while another process, the last one to leave, tidies up. Raises OSError."""
        self._path = path
        while True:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.lockf(self._file, fcntl.LOCK_SH, 1, _PRESENCE)
            if self._is_there():
                return
            os.close(self._file)

    def _is_there(self) -> bool:
        """Whether our file is still the one that others would open."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path))
        except FileNotFoundError:
            return False

    def take(self, episode: str) -> bool:
        """Claim an episode; False where another process has it."""
        return self._lock(_byte(episode))

    def release(self, episode: str) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _byte(episode))

    @contextmanager
    def leaving(self) -> Iterator[bool]:
        """Be there no more. Yields whether this is the last process: newcomers wait for its block.

        A process tries once: a second attempt could keep another one from being the last.
        """
        try:
            # Given up first: of two that leave at once, one is the last.
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


def _byte(episode: str) -> int:
    """An offset that no file reaches: a lock needs no byte to be there."""
    return 1 + (int.from_bytes(blake2b(episode.encode(), digest_size=8).digest()) >> 2)
