"""One call's time and its second tries: what both clients share around the I/O."""

from __future__ import annotations

import math
import time
from typing import Any, Generic, TypeVar

from arena_llm._call import Call
from arena_llm._channel import Link
from arena_llm._grpc import grpc
from arena_llm._status import arena_error, never_connected
from arena_llm.errors import CallCancelledError, InvalidArgumentError

T = TypeVar("T")

#: Seconds between two tries to reach a target that cannot be connected to.
_PAUSE = 0.1
#: Seconds from which a timeout counts as none; grpc's clock ends somewhere beyond.
_ENDLESS = 1e9


class Attempt(Generic[T]):
    """Counts a call's remaining time, and judges its failures.

    Only a connection that could not be made is tried again: such a call has
    reached nobody. Everything else is raised, as the client's error.
    """

    def __init__(self, link: Link, call: Call[T], timeout: float) -> None:
        if not isinstance(timeout, int | float) or timeout != timeout:  # NaN
            raise InvalidArgumentError(
                f"timeout must be seconds, not {timeout!r}",
                reason="INVALID_REQUEST",
                field="timeout",
                model=call.model,
            )
        self._link = link
        self.call = call
        self._timeout = float(min(timeout, _ENDLESS))
        self._started = False
        self._deadline = math.inf

    def start(self) -> Any:
        """Make the call, or make it again; return what grpc returns."""
        if not self._started:
            self._started = True
            self._deadline = time.monotonic() + self._timeout
        elif self._link.closed:
            raise self.closed()
        return self._link.start(self.call, self._remaining())

    def _remaining(self) -> float | None:
        """Seconds left, None for no bound."""
        if self._timeout >= _ENDLESS:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def pause_after(self, error: Exception) -> float:
        """Seconds to wait before the next try, or raises what the caller is to see."""
        if not isinstance(error, grpc.RpcError):
            # grpc's own complaint that the channel was closed under the call.
            if self._link.closed:
                raise self.closed() from None
            raise error
        if self._link.closed and error.code() is grpc.StatusCode.CANCELLED:
            raise self.closed() from None
        if never_connected(error):
            pause = min(self._link.patience(), self._deadline - time.monotonic())
            if pause > 0:
                return min(pause, _PAUSE)
        raise arena_error(
            error, target=self._link.target, model=self.call.model, timeout=self._timeout
        ) from None

    def closed(self) -> CallCancelledError:
        """The error of a call whose client was closed while it ran."""
        return CallCancelledError(
            "the client was closed during the call",
            reason="CLIENT_CLOSED",
            model=self.call.model,
        )
