"""A backend of the router: the channels to its replicas, and the meaning of its failures.

A channel's addresses never change. If the replicas change, new calls take a new channel with
connections of its own, and the old one is closed after its last call.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from operator import attrgetter
from typing import Any

import grpc

from arena_llm.connection import message_options, ping_options, reconnect_options
from arena_llm.errors import DETAILS_TRAILER, NOT_CONNECTED
from arena_llm.tls import open_channel
from arena_llm.v1 import models_pb2
from router.config import Route, is_one_address
from router.discovery import ReplicaSet
from router.routing import (
    LARGEST_RING,
    Headers,
    Metadata,
    build_service_config,
    build_target,
)
from services.common.call import CallRecord
from services.common.errors import BackendDown, BackendError, DeadlineExceeded, Overloaded
from services.common.handlers import SERVICE
from services.common.hops import describe_remaining
from services.common.metrics import meter

#: How gRPC's balancers and resolvers begin a message when there was no connection.
_NEVER_CONNECTED = (
    "connections to all backends failing",
    "ring hash cannot find a connected endpoint",
    *NOT_CONNECTED,
)

#: The codes that gRPC sets for a failed connection, and for a stream whose server died.
_BROKEN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}

#: Seconds within which a call that has chosen this backend begins. This is more than the longest
#: ask_timeout_seconds (60), because a list of models is read page by page.
_ABOUT_TO_BEGIN = 65.0

#: The operating system's error in the message of a failed connection: "Connection refused".
_CAUSE = re.compile(r"connect: ([\w ]+) \(\d+\)")


#: Seconds within which gRPC connects to a server that is up again.
_RECONNECT_SECONDS = 3.0

#: Sessions whose replica is remembered.
_MOST_SESSIONS = 10_000

#: Seconds after which a caller may try again, if too many calls wait for a replica.
_RETRY_SECONDS = 5.0


def channel_options(route: Route, replicas: int = 1) -> Sequence[tuple[str, int | str]]:
    """Return the options of the channel to a route's targets. replicas: their addresses."""
    host = "" if len(route.targets) > 1 or is_one_address(route.targets[0]) else route.targets[0]
    return (
        *message_options(),
        *ping_options(),
        # A host that drops packets is given up after two seconds.
        *reconnect_options(2_000),
        # Ping between calls too, so that new calls find a live replica.
        ("grpc.keepalive_permit_without_calls", 1),
        # The targets are the operator's own services: http_proxy is for other hosts.
        ("grpc.enable_http_proxy", 0),
        (
            "grpc.service_config",
            build_service_config(route.policy, replicas, has_health=not route.application),
        ),
        ("grpc.lb.ring_hash.ring_size_cap", LARGEST_RING),
        # Each channel has its own connections. grpcio 1.75.0 crashes (SIGSEGV) if a channel closes
        # while another one asks for the health of a shared connection.
        ("grpc.use_local_subchannel_pool", 1),
        # The replicas behind a host's name have other addresses. Calls still name this host.
        *([("grpc.default_authority", host)] if host else []),
    )


def _open_channel(route: Route, targets: Sequence[str]) -> Any:
    """Any, because the type stubs do not know that (de)serializers may be left out."""
    tls = None if route.tls is None else route.tls.settings
    if tls is not None and not tls.server_name and not is_one_address(route.targets[0]):
        tls = replace(tls, server_name=route.targets[0].rpartition(":")[0])
    return open_channel(grpc.aio, build_target(targets), tls, channel_options(route, len(targets)))


def _stamp(route: Route) -> object:
    """Return a value that changes when a certificate of the route changes."""
    return None if route.tls is None else route.tls.settings.stamp()


class _Wire:
    """A channel to some replicas, its methods, and the number of calls that run over it."""

    def __init__(self, route: Route, addresses: Sequence[str]) -> None:
        self.calls = 0
        self.channel = channel = _open_channel(route, addresses)
        # Connect now, so that the first call does not wait for the connection.
        channel.get_state(try_to_connect=True)
        self.methods: dict[str, Any] = {
            method.name: (channel.unary_stream if method.server_streaming else channel.unary_unary)(
                f"/{SERVICE.full_name}/{method.name}"
            )
            for method in SERVICE.methods
        }

    def end(self, _: object) -> None:
        """Count a call that has ended."""
        self.calls -= 1

    async def close_after_its_calls(self) -> None:
        """Close the channel after its last call. New calls must not use it any more."""
        try:
            while self.calls:  # noqa: ASYNC110 - an event would cost every call
                await asyncio.sleep(1.0)
        finally:
            await self.channel.close()


class Backend:
    """The replicas behind one prefix. Create it on the event loop that uses it.

    name: the prefix without its underscore, such as "hf".
    targets: the addresses of its replicas, or a host's name with the port.
    addresses: the same as a text.
    replicas: the addresses behind them, and which of them serve.
    held: calls that wait for a replica.
    """

    def __init__(self, prefix: str, route: Route) -> None:
        self.prefix = prefix
        self.name = prefix.removesuffix("_")
        self.targets = route.targets
        self.addresses = ", ".join(route.targets)
        self._route = route
        self._stamp = _stamp(route)
        #: Whether another replica may answer in place of a lost one.
        self.has_replicas = (
            len(route.targets) > 1
            or not is_one_address(route.targets[0])
            or route.hold > 0
            or route.application != ""
        )
        self.holds = route.hold > 0
        self.held = 0
        #: The replica that answered the last call of each session. The latest session is last.
        self._homes: dict[str, str] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._used: Sequence[str] = route.targets
        self._connections = self._open_wires()
        self.replicas = ReplicaSet(
            route, lambda address: _open_channel(route, [address]), self._use_replicas
        )
        self.replicas.start()
        if self.holds:
            meter.watch("held", self._figures)

    async def connect(self) -> None:
        """Wait until a replica is connected, for as long as grpc may pause between attempts."""
        ready = (wire.channel.channel_ready() for wire in self._connections)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*ready), _RECONNECT_SECONDS)

    def _open_wires(self) -> list[_Wire]:
        return [_Wire(self._route, self._used) for _ in range(self._route.connections)]

    def _use_replicas(self) -> None:
        """Let new calls go to the replicas that there are now."""
        # Without an address gRPC looks the name up, and says what is wrong with it.
        usable = self.replicas.usable or tuple(self.targets)
        if {*usable} == {*self._used}:
            return
        self._used = usable
        old, self._connections = self._connections, self._open_wires()
        for wire in old:
            task = asyncio.create_task(wire.close_after_its_calls())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _figures(self) -> list[tuple[tuple[str, ...], float]]:
        return [((self.name,), self.held)]

    async def hold(self, seconds: float | None) -> None:
        """Wait until a replica serves, at most this long.

        Raises DeadlineExceeded, and Overloaded if too many calls wait.
        """
        if self.replicas.ready.is_set():
            return
        with self._held():
            try:
                await asyncio.wait_for(self.replicas.ready.wait(), seconds)
            except TimeoutError:
                raise DeadlineExceeded(
                    f"backend {self.name} at {self.addresses} had no replica that serves until "
                    "the deadline; see the log of what starts its replicas"
                ) from None

    @contextmanager
    def _held(self) -> Iterator[None]:
        if self.held >= self._route.hold:
            raise Overloaded(
                f"backend {self.name} has no replica that serves, and {self.held} calls wait for "
                f"one, which is the limit routes.{self.prefix}.hold: try again later",
                retry_after=_RETRY_SECONDS,
            )
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    def can_hold_again(self, error: grpc.aio.AioRpcError) -> bool:
        """Whether a failed call can wait for a replica again, because it has reached none."""
        failure = self.explain_failure(error) if self.holds else None
        if not isinstance(failure, BackendDown) or failure.is_reached:
            return False
        self.replicas.doubt()
        return True

    def call(self, rpc: str, data: bytes, timeout: float | None, metadata: Metadata = ()) -> Any:
        """Start a call of bytes to bytes; the caller must cancel it."""
        headers = Headers(metadata + self.serve_metadata(timeout))
        connection = self._connections[0]
        if len(self._connections) > 1:
            connection = min(self._connections, key=attrgetter("calls"))
        call = connection.methods[rpc](data, timeout=timeout, metadata=headers)
        connection.calls += 1
        call.add_done_callback(connection.end)
        return call

    def serve_metadata(self, timeout: float | None) -> Metadata:
        """Return the metadata for Ray Serve: the name of the backend, and the remaining time.

        timeout: seconds that remain. Backends without Ray Serve get no metadata.
        """
        if not self._route.application:
            return ()
        application = ("application", self._route.application)
        return (application,) if timeout is None else (application, describe_remaining(timeout))

    def replica(self, address: str) -> Any:
        """Return the method GetServiceInfo of one replica, as bytes to bytes."""
        channel = self.replicas.channel(address)
        return channel.unary_unary(f"/{SERVICE.full_name}/GetServiceInfo")

    def note_replica(self, record: CallRecord) -> None:
        """Count a call's session as moved if another replica answered its previous call."""
        session, replica = record.get("session"), record.get("replica")
        if not self.has_replicas or not isinstance(session, str) or not isinstance(replica, str):
            return
        before = self._homes.pop(session, replica)
        self._homes[session] = replica
        if before != replica:
            meter.count_move(self.name)
        if len(self._homes) > _MOST_SESSIONS:
            del self._homes[next(iter(self._homes))]

    def explain_failure(
        self, error: grpc.aio.AioRpcError, addresses: str = ""
    ) -> BackendError | None:
        """Return the error for a lost connection or deadline; None if the backend answered.

        Errors of a service have status details; errors that gRPC makes in this process have
        none. A missed deadline always gives the same error, whether this process or the
        backend noticed it first. addresses: the replica that was asked; default: all of them.
        """
        addresses = addresses or self.addresses
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"backend {self.name} at {addresses} did not answer in time")
        trailers: Any = error.trailing_metadata()
        if DETAILS_TRAILER in trailers:
            return None
        text = error.details() or ""
        if self._route.application and not text.startswith(_NEVER_CONNECTED):
            # Ray Serve's own error, whose text can be that of any exception.
            problem = f"cannot answer (Ray Serve: {error.code().name})"
            return self._down(addresses, problem, reached=True)
        if error.code() not in _BROKEN:
            return None
        if text.startswith(_NEVER_CONNECTED):
            cause = _CAUSE.search(text)
            problem = f"cannot be reached ({cause[1] if cause else text})"
            return self._down(addresses, problem, reached=False)
        problem = f"is gone: the connection broke during the call ({text})"
        return self._down(addresses, problem, reached=True)

    def _down(self, addresses: str, problem: str, *, reached: bool) -> BackendDown:
        """Return the error that names this backend, its addresses and how to start it.

        reached: whether the backend may have got the call, so that a provider may bill it.
        """
        start = self._route.start
        remedy = f"start it with `{start}`" if start else "check that it runs"
        return BackendDown(
            f"backend {self.name} at {addresses} {problem}; {remedy}",
            metadata={
                "backend": self.name,
                "addresses": addresses,
                "reached": str(reached).lower(),
            },
        )

    def unreachable(self, detail: str) -> models_pb2.UnreachableBackend:
        """Return this backend's entry in a list of unreachable backends."""
        return models_pb2.UnreachableBackend(
            backend=self.name, addresses=self._route.targets, detail=detail
        )

    def serves(self, route: Route) -> bool:
        """Whether this backend fits a route and the route's present certificates."""
        return route == self._route and _stamp(route) == self._stamp

    def has_other_files(self, other: Backend) -> bool:
        """Whether another backend of the same route has later certificates."""
        return other._route == self._route and other._stamp != self._stamp

    async def close_later(self) -> None:
        """Close after the calls that run, and after those that are about to begin."""
        try:
            await asyncio.sleep(_ABOUT_TO_BEGIN)
            while self._closing or any(wire.calls for wire in self._connections):  # noqa: ASYNC110
                await asyncio.sleep(1.0)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the channels; calls in flight are cancelled."""
        meter.unwatch("held", self._figures)
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await asyncio.gather(*(connection.channel.close() for connection in self._connections))
        await self.replicas.aclose()
