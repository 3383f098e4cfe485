"""The deadline and the reconnects of one call, shared by both clients."""

from __future__ import annotations

import math
import time
from typing import Any, Generic, TypeVar

from arena_llm._channel import Link
from arena_llm._grpc import grpc
from arena_llm._request import Call
from arena_llm._status import arena_error, never_connected
from arena_llm.errors import CallCancelledError, InvalidArgumentError

T = TypeVar("T")

#: Seconds between two tries to reach a target that cannot be connected to.
_PAUSE = 0.1
#: A timeout of this many seconds or more means no deadline; grpc cannot hold much more.
_ENDLESS = 1e9


class Attempt(Generic[T]):
    """Keeps a call's deadline, and decides about its failures.

    A call is repeated only if no connection could be made, because then no server
    has seen it. All other failures are raised as errors of the client.
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
        """Start or repeat the call; return what grpc returns."""
        if not self._started:
            self._started = True
            self._deadline = time.monotonic() + self._timeout
        elif self._link.closed:
            raise self.closed()
        return self._link.start(self.call, self._remaining())

    def _remaining(self) -> float | None:
        """Return the seconds that are left; None without a deadline."""
        if self._timeout >= _ENDLESS:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def pause_after(self, error: Exception) -> float:
        """Return the seconds to wait before the next try, or raise the client's error."""
        if not isinstance(error, grpc.RpcError):
            # grpc raises this if the channel was closed during the call.
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
        """Return the error of a call whose client was closed during it."""
        return CallCancelledError(
            "the client was closed during the call",
            reason="CLIENT_CLOSED",
            model=self.call.model,
        )
