"""Which of several workers runs the call of a request_id, or keeps its reply.

A retry may reach another worker, which hands it to the one that had the id first. That one shares
the call or its reply, as a single process does. The table is shared memory: a claim costs 6 us.
"""

from __future__ import annotations

import fcntl
import mmap
import struct
import tempfile
import time
from hashlib import blake2b

#: A slot is a hash of the request_id, the second of its claim, and the number of its worker.
_SLOT = struct.Struct("<QII")
_SLOTS = 8
_BUCKET = struct.Struct("<" + "QII" * _SLOTS)
#: Room for a million ids: those of the default 300 seconds at 3,000 calls/s. They take memory as
#: needed, up to 16 MiB. A full bucket loses its oldest id: a retry with that id is a new call.
_BUCKETS = 2**17
_PORT = struct.Struct("<I")


class IdClaims:
    """The table, and the ports at which the workers take calls from each other.

    Make it before the workers are forked. worker: the index of this process.
    """

    def __init__(self, workers: int) -> None:
        self._ports = mmap.mmap(-1, _PORT.size * workers)
        self._table = mmap.mmap(-1, _BUCKET.size * _BUCKETS)
        # Locked by its bytes, one for each bucket. The lock of a killed process is released.
        self._locks = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self.worker = 0

    def enter(self, worker: int) -> None:
        """Say which worker this process is."""
        self.worker = worker

    def open_port(self, port: int) -> None:
        """Publish the port of this worker."""
        _PORT.pack_into(self._ports, _PORT.size * self.worker, port)

    def close_port(self, worker: int) -> None:
        """Forget the port of a worker that has ended."""
        _PORT.pack_into(self._ports, _PORT.size * worker, 0)

    def port(self, worker: int) -> int:
        """Return the port of a worker; 0 if it is not running."""
        port: int = _PORT.unpack_from(self._ports, _PORT.size * worker)[0]
        return port

    def claim(self, request_id: str, *, again: bool = False) -> int:
        """Return the worker to which the id belongs: this one, if it had none.

        again: take the id over from a worker that has ended.
        """
        key = int.from_bytes(blake2b(request_id.encode(), digest_size=8).digest()) or 1
        bucket = key % _BUCKETS
        start = bucket * _BUCKET.size
        fcntl.lockf(self._locks, fcntl.LOCK_EX, 1, bucket)
        try:
            numbers = _BUCKET.unpack_from(self._table, start)
            keys = numbers[::3]
            if key in keys:
                slot = keys.index(key)
                if not again:
                    return int(numbers[3 * slot + 2])
            else:
                times = numbers[1::3]
                slot = times.index(min(times))
            now = int(time.monotonic()) + 1  # an empty slot has 0
            _SLOT.pack_into(self._table, start + slot * _SLOT.size, key, now, self.worker)
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, bucket)
        return self.worker
