"""What both clients are made of: a target, and calls with deadline and reconnects."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

from arena_llm._fork import grpc
from arena_llm._request import Call
from arena_llm._transport import Headers, Link, make_credentials
from arena_llm.connection import DEFAULT_TIMEOUT, resolve_target, resolve_token
from arena_llm.errors import (
    CallCancelledError,
    InternalError,
    InvalidArgumentError,
    error_from_status,
    never_connected,
    unreadable_reply,
)
from arena_llm.tls import Tls, find_tls

T = TypeVar("T")

#: Seconds between two attempts to connect.
_PAUSE = 0.1
#: A timeout of this many seconds or more means no deadline; grpc cannot hold much more.
_ENDLESS = 1e9


class PendingCall(Generic[T]):
    """One call and its deadline. Decides whether a failed call is repeated.

    A call is repeated only if no connection could be made, because then no server has seen
    it. All other failures become errors of the client.
    """

    def __init__(
        self, link: Link, call: Call[T], timeout: float, caller: Headers | None = None
    ) -> None:
        if not isinstance(timeout, int | float) or timeout != timeout:  # NaN
            raise InvalidArgumentError(
                f"timeout must be seconds, not {timeout!r}",
                reason="INVALID_REQUEST",
                field="timeout",
                model=call.model,
            )
        self._link = link
        self._caller = caller
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
            raise self.closed_error()
        remaining = None
        if self._timeout < _ENDLESS:
            remaining = max(0.0, self._deadline - time.monotonic())
        return self._link.start(self.call, remaining, self._caller)

    def pause_after(self, error: Exception) -> float:
        """Return the seconds to wait before the next attempt, or raise the client's error."""
        if not isinstance(error, grpc.RpcError):
            # grpc raises this if the channel was closed during the call.
            if self._link.closed:
                raise self.closed_error() from None
            raise error
        if self._link.closed and error.code() is grpc.StatusCode.CANCELLED:
            raise self.closed_error() from None
        if never_connected(error):
            pause = min(self._link.patience(), self._deadline - time.monotonic())
            if pause > 0:
                return min(pause, _PAUSE)
        raise error_from_status(
            error, target=self._link.target, model=self.call.model, timeout=self._timeout
        ) from None

    def unreadable_reply(self) -> InternalError:
        """Return the error of a reply that does not parse; grpc.aio only returns None then."""
        return unreadable_reply(self._link.target, self.call.model)

    def closed_error(self) -> CallCancelledError:
        """Return the error of a call whose client was closed during it."""
        return CallCancelledError(
            "the client was closed during the call",
            reason="CANCELLED",
            model=self.call.model,
        )


class BaseClient:
    """A target, a default timeout, and a link that connects on first use."""

    _link_type: ClassVar[type[Link]]

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        token: str | None = None,
        tls: Tls | bool | None = None,
    ) -> None:
        self.timeout = timeout
        self._link = self._link_type(resolve_target(target), resolve_token(token), find_tls(tls))
        #: The headers of the caller for whom this client forwards calls; None: its own headers.
        self._caller: Headers | None = None

    @property
    def target(self) -> str:
        """The address that calls go to."""
        return self._link.target

    def on_behalf_of(self, token: str, headers: Mapping[str, str] | None = None) -> Self:
        """Return a client that makes another caller's calls, over the connections of this one.

        It is for servers that forward calls, and costs a microsecond. Close only the first client.

        token: the caller's, in place of this client's own; "" sends none. headers: further
        metadata of each call. Raises InvalidArgumentError for a token that no header can hold.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._caller = make_credentials(resolve_token(token)) + tuple((headers or {}).items())
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        if self._caller is not None:
            raise TypeError("a client on behalf of another caller cannot be pickled")
        # A connection cannot be pickled; what it is made from can, with the token.
        link = self._link
        return _restore, (type(self), self.target, self.timeout, link.token, link.tls or False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target!r}, timeout={self.timeout:g})"

    def _pending(self, call: Call[T], timeout: float | None) -> PendingCall[T]:
        seconds = self.timeout if timeout is None else timeout
        return PendingCall(self._link, call, seconds, self._caller)


def _restore(
    cls: type[BaseClient], target: str, timeout: float, token: str, tls: Tls | bool
) -> BaseClient:
    return cls(target, timeout=timeout, token=token, tls=tls)
