"""Bounds of what a process holds at the same time: calls, and bytes of their requests."""

from __future__ import annotations

from services.common.errors import Overloaded

#: Seconds after which a refused caller may try again.
_RETRY_SECONDS = 1.0


class Admission:
    """Counts the calls in flight and the bytes of their requests.

    max_calls, max_bytes: 0 means no limit.
    """

    def __init__(self, max_calls: int, max_bytes: int) -> None:
        self.max_calls = max_calls
        self.max_bytes = max_bytes
        self.calls = 0
        self.bytes = 0

    def admit(self, data: bytes) -> Admitted:
        """Return the place of a request."""
        return Admitted(self, len(data))

    def check(self, size: int) -> None:
        """Raise Overloaded if there is no place for a request with so many bytes."""
        if self.max_calls and self.calls >= self.max_calls:
            raise Overloaded(
                f"{self.calls} calls are in flight, which is the limit max_calls_in_flight of the "
                "configuration: try again later",
                retry_after=_RETRY_SECONDS,
            )
        if self.max_bytes and self.calls and self.bytes + size > self.max_bytes:
            raise Overloaded(
                f"the requests in flight have {self.bytes} bytes, and with this one more than the "
                "limit max_bytes_in_flight of the configuration: try again later",
                retry_after=_RETRY_SECONDS,
            )


class Admitted:
    """The place of one request, for the time of its call. Raises Overloaded if there is none."""

    __slots__ = ("_admission", "_size")

    def __init__(self, admission: Admission, size: int) -> None:
        self._admission = admission
        self._size = size

    def __enter__(self) -> None:
        self._admission.check(self._size)
        self._admission.calls += 1
        self._admission.bytes += self._size

    def __exit__(self, *_: object) -> None:
        self._admission.calls -= 1
        self._admission.bytes -= self._size
