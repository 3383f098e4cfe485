"""A client's channels: when they are opened, replaced and closed."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar
from weakref import WeakSet

from arena_llm._fork import aio, check_fork, forked, grpc, leave_to_parent
from arena_llm._request import Call
from arena_llm.connection import is_local, message_options, ping_options, reconnect_options
from arena_llm.errors import FailedPreconditionError
from arena_llm.tls import Tls, open_channel
from arena_llm.tracing import trace_call, tracing
from arena_llm.v1.llm_service_pb2_grpc import LlmServiceStub

T = TypeVar("T")

#: Metadata of a call.
Headers = tuple[tuple[str, str], ...]

#: Seconds that calls wait for a target that refuses connections: enough for a router to
#: restart.
CONNECT_SECONDS = 2.0
#: Milliseconds to connect. More means that the target hangs.
CONNECT_TIMEOUT_MS = 5000
#: Seconds without a failed connection after which the next failure begins a new outage.
_QUIET_SECONDS = 5.0
#: Seconds between two checks whether the files of TLS have changed.
_STAMP_SECONDS = 1.0


def channel_options(target: str) -> list[tuple[str, int]]:
    """Return the options of every channel.

    There is no retry policy, and none is read from DNS: only the hosted services retry.
    grpc itself repeats only calls that never reached a server.
    """
    return [
        *message_options(),
        *ping_options(),
        *reconnect_options(CONNECT_TIMEOUT_MS),
        ("grpc.service_config_disable_resolution", 1),
        # http_proxy must not redirect calls to this machine.
        ("grpc.enable_http_proxy", int(not is_local(target))),
    ]


class _Stub(LlmServiceStub):
    """The methods of LlmService, and the standard health check."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)  # type: ignore[no-untyped-call]  # generated code
        self._channel = channel

    @cached_property
    def Health(self) -> Any:
        """The method Check of grpc.health.v1. Its module is imported here, because few need it."""
        from grpc_health.v1.health_pb2_grpc import HealthStub

        return HealthStub(self._channel).Check


def build_health_call() -> Call[str]:
    """Build a health check; it returns the status's name."""
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

    names = HealthCheckResponse.ServingStatus.DESCRIPTOR.values_by_number

    def convert(reply: Any) -> str:
        status: int = reply.status
        return names[status].name if status in names else str(status)

    return Call("Health", HealthCheckRequest(), convert)


def make_credentials(token: str) -> Headers:
    """Return the headers that carry a token; none for an empty one."""
    return (("authorization", f"Bearer {token}"),) if token else ()


@dataclass(frozen=True, slots=True)
class _OpenChannel:
    """A channel, its methods, and the asynchronous calls that run over it."""

    channel: Any
    stub: _Stub
    calls: WeakSet[aio.Call] = field(default_factory=WeakSet)

    def track(self, rpc: Any) -> Any:
        """Remember a started call, and return it. For a blocking call, rpc is its reply."""
        if isinstance(rpc, aio.Call):
            self.calls.add(rpc)
        if isinstance(rpc, aio.Call | grpc.Call):
            leave_to_parent(rpc)
        return rpc

    def cancel_calls(self) -> None:
        """Cancel the asynchronous calls. Must run in their own event loop."""
        # grpc.aio's close() finds only calls that a task awaits directly.
        for rpc in self.calls:
            rpc.cancel()


class Link(ABC):
    """A target, and its channels: one for all threads, or one for each event loop."""

    def __init__(self, target: str, token: str, tls: Tls | None) -> None:
        self.target = target
        self.token = token
        self.tls = tls
        self._stamp: object = None if tls is None else tls.stamp()
        self._stamped = 0.0
        #: Channels with outdated certificates. Their calls may still run.
        self._retired: list[tuple[Any, _OpenChannel]] = []
        self._credentials = make_credentials(token)
        self.closed = False
        self._channels: dict[Any, _OpenChannel] = {}
        self._down_since = self._down_last = float("-inf")

    @abstractmethod
    def _key(self) -> Any:
        """Return the owner of a channel: the running event loop, or None for all threads."""

    @abstractmethod
    def _connect(self) -> Any:
        """Make a channel."""

    def start(self, call: Call[Any], timeout: float | None, caller: Headers | None = None) -> Any:
        """Start a call over the channel of this event loop, or of all threads; return it.

        timeout: seconds; None means no deadline. caller: the headers of another caller, in place of
        this link's token.
        """
        check_fork()
        if self.tls is not None:
            self._follow_files(self.tls)
        opened = None if self.closed else self._channels.get(self._key()) or self._new()
        # Checked again, because another thread may have closed the link meanwhile.
        if opened is None or self.closed:
            self._channels.pop(self._key(), None)
            raise FailedPreconditionError(
                "this client is closed: make another one", reason="CLIENT_CLOSED"
            )
        method = getattr(opened.stub, call.method)
        metadata = call.metadata + (self._credentials if caller is None else caller)
        if tracing.is_on:
            return opened.track(trace_call(method, timeout, metadata, call))
        return opened.track(method(call.request, timeout=timeout, metadata=metadata))

    def _new(self) -> _OpenChannel:
        channel = self._connect()
        leave_to_parent(channel)
        # Without a lock, because a fork could copy a held lock. If two threads are here at
        # the same time, one of the two channels is dropped unused.
        return self._channels.setdefault(self._key(), _OpenChannel(channel, _Stub(channel)))

    def _follow_files(self, tls: Tls) -> None:
        """Make the next call open a new channel if a file has changed: grpc reads files once."""
        now = time.monotonic()
        if now - self._stamped < _STAMP_SECONDS:
            return
        self._stamped = now
        if (stamp := tls.stamp()) != self._stamp:
            self._retired += self._channels.items()
            self._channels.clear()
            self._stamp = stamp

    def patience(self) -> float:
        """Return how many seconds calls may still wait for a connection in this outage.

        All calls share this wait, so that a thousand calls to a target that is down fail
        together, and not each after its own wait.
        """
        now = time.monotonic()
        if now - self._down_last > _QUIET_SECONDS:
            self._down_since = now
        self._down_last = now
        return self._down_since + CONNECT_SECONDS - now

    def release(self) -> list[tuple[Any, _OpenChannel]]:
        """Refuse further calls; return the open channels with their keys, to be closed."""
        self.closed = True
        released = [*self._retired, *self._channels.items()]
        self._retired.clear()
        self._channels.clear()
        return [] if forked() else released


class SyncLink(Link):
    """One channel for all threads."""

    def __init__(self, target: str, token: str, tls: Tls | None) -> None:
        super().__init__(target, token, tls)
        self._branches: set[SyncLink] = set()

    @contextmanager
    def branch(self) -> Iterator[SyncLink]:
        """Yield a link with a channel of its own over the same connection.

        Closing the branch ends only its own calls. Closing this link closes the branch.
        """
        link = SyncLink(self.target, self.token, self.tls)
        self._branches.add(link)
        try:
            if self.closed:
                link.close()
            yield link
        finally:
            self._branches.discard(link)
            link.close()

    def close(self) -> None:
        """End running calls and refuse further ones."""
        for _, opened in self.release():
            opened.channel.close()
        for branch in list(self._branches):
            branch.close()

    def _key(self) -> None:
        return None

    def _connect(self) -> Any:
        return open_channel(grpc, self.target, self.tls, channel_options(self.target))


class _QueueErrors:
    """Drops an error that grpc.aio causes if a process has several event loops.

    All loops watch one queue. When it gets something, all of them read it, and all but the first
    find it empty (BlockingIOError). Calls are not affected. The previous handler gets all other
    errors.
    """

    def __init__(self, before: Callable[[AbstractEventLoop, Any], Any] | None) -> None:
        self._before = before

    def __call__(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        is_theirs = "PollerCompletionQueue" in str(context.get("message"))
        if is_theirs and isinstance(context.get("exception"), BlockingIOError):
            return
        if self._before is None:
            loop.default_exception_handler(context)
        else:
            self._before(loop, context)


class AsyncLink(Link):
    """One channel for each event loop, because objects of grpc.aio are bound to one loop."""

    def _key(self) -> AbstractEventLoop:
        return get_running_loop()

    def _connect(self) -> Any:
        loop = get_running_loop()
        if not isinstance(before := loop.get_exception_handler(), _QueueErrors):
            loop.set_exception_handler(_QueueErrors(before))
        return open_channel(aio, self.target, self.tls, channel_options(self.target))

    def _new(self) -> _OpenChannel:
        loops: list[AbstractEventLoop] = list(self._channels)
        for loop in loops:
            if loop.is_closed():
                del self._channels[loop]
        return super()._new()
