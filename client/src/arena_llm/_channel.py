"""Channels to the target: made on first use, never shared with a forked child."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from arena_llm._fork import check_fork, forked, leave_to_parent
from arena_llm._grpc import aio, grpc
from arena_llm._request import Call
from arena_llm.connection import is_local, message_options, pinging
from arena_llm.errors import FailedPreconditionError
from arena_llm.v1.llm_service_pb2_grpc import LlmServiceStub

#: Seconds for which calls wait for a target that cannot be connected to: long
#: enough for a router that is being restarted.
CONNECT_SECONDS = 2.0
#: Seconds without a failure to connect, after which the next one begins a new outage.
_QUIET_SECONDS = 5.0


def channel_options(target: str) -> list[tuple[str, int]]:
    """The options of every channel.

    There is no retry policy, and none is read from DNS: only the hosted services
    retry. grpc itself repeats only calls that never reached a server.
    """
    return [
        *message_options(),
        *pinging(),
        ("grpc.service_config_disable_resolution", 1),
        # A router that is back is found within a second, not grpc's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # The connect timeout, in spite of its name: a router that hangs is noticed.
        ("grpc.min_reconnect_backoff_ms", 5000),
        # http_proxy must not redirect calls to this machine.
        ("grpc.enable_http_proxy", int(not is_local(target))),
    ]


class _Stub(LlmServiceStub):
    """The service's methods, and the health check that stands beside it."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)  # type: ignore[no-untyped-call]  # generated code
        # HealthCheckRequest {string service = 1} and HealthCheckResponse {enum
        # status = 1} have the wire format of these wrappers, which spares the
        # client a dependency (github.com/grpc/grpc/blob/master/doc/health-checking.md).
        self.Health = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=Int32Value.FromString,
        )


@dataclass(frozen=True, slots=True)
class _Open:
    """An open channel, its methods, and the asynchronous calls that run over it."""

    channel: Any
    stub: _Stub
    calls: WeakSet[aio.Call] = field(default_factory=WeakSet)

    def started(self, rpc: Any) -> Any:
        """Note a call that runs; rpc is the reply where the call has ended."""
        if isinstance(rpc, aio.Call):
            self.calls.add(rpc)
        if isinstance(rpc, aio.Call | grpc.Call):
            leave_to_parent(rpc)
        return rpc

    def cancel_calls(self) -> None:
        """Cancel the asynchronous calls; in their event loop only."""
        # grpc.aio's close() finds only those calls that a task awaits directly.
        for rpc in self.calls:
            rpc.cancel()


class Link(ABC):
    """A target, and a channel to it for each key: one in all, or one for each event loop."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._open: dict[Any, _Open] = {}
        self._closed = False
        self._down_since = self._down_last = float("-inf")

    @abstractmethod
    def _key(self) -> Any:
        """Return what a channel belongs to."""

    @abstractmethod
    def _connect(self) -> Any:
        """Make a channel."""

    def start(self, call: Call[Any], timeout: float | None) -> Any:
        """Start the call over the channel of the current key; return what grpc returns.

        timeout: seconds, None for no bound.
        """
        check_fork()
        opened = None if self._closed else self._open.get(self._key()) or self._new()
        # Checked again, because another thread may have closed the link meanwhile.
        if opened is None or self._closed:
            self._open.pop(self._key(), None)
            raise FailedPreconditionError(
                "this client is closed: make another one", reason="CLIENT_CLOSED"
            )
        method = getattr(opened.stub, call.method)
        return opened.started(method(call.request, timeout=timeout, metadata=call.metadata))

    def _new(self) -> _Open:
        channel = self._connect()
        leave_to_parent(channel)
        # No lock, because a fork could copy it while it is held. If two threads come
        # here at the same time, one of the two channels is dropped unused.
        return self._open.setdefault(self._key(), _Open(channel, _Stub(channel)))

    def patience(self) -> float:
        """Seconds left to wait for a connection, counted from the outage's start.

        All calls share this wait, so that a thousand calls to a target that does not
        answer fail together instead of each after its own wait.
        """
        now = time.monotonic()
        if now - self._down_last > _QUIET_SECONDS:
            self._down_since = now
        self._down_last = now
        return self._down_since + CONNECT_SECONDS - now

    def release(self) -> dict[Any, _Open]:
        """Refuse calls from now on; return what is open, by key, to be closed."""
        self._closed = True
        released = dict(self._open)
        self._open.clear()
        return {} if forked() else released

    @property
    def closed(self) -> bool:
        return self._closed


class SyncLink(Link):
    """One channel for all threads."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self._branches: set[SyncLink] = set()

    @contextmanager
    def branch(self) -> Iterator[SyncLink]:
        """A link with a channel of its own, closed at the end, or earlier together with this one.

        Closing it ends its own calls and no others. It shares the connection.
        """
        link = SyncLink(self.target)
        self._branches.add(link)
        try:
            if self._closed:
                link.close()
            yield link
        finally:
            self._branches.discard(link)
            link.close()

    def close(self) -> None:
        """End the calls that run, and refuse calls from now on."""
        for opened in self.release().values():
            opened.channel.close()
        for branch in list(self._branches):
            branch.close()

    def _key(self) -> None:
        return None

    def _connect(self) -> grpc.Channel:
        return grpc.insecure_channel(self.target, options=channel_options(self.target))


class AsyncLink(Link):
    """One channel for each event loop: grpc.aio's objects stay with theirs."""

    def _key(self) -> AbstractEventLoop:
        return get_running_loop()

    def _connect(self) -> aio.Channel:
        return aio.insecure_channel(self.target, options=channel_options(self.target))

    def _new(self) -> _Open:
        loops: list[AbstractEventLoop] = list(self._open)
        for loop in loops:
            if loop.is_closed():
                del self._open[loop]
        return super()._new()
