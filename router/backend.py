"""A backend of the router: one channel to its replicas, and the meaning of its failures."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import grpc

from arena_llm.connection import message_options, ping_options, reconnect_options
from arena_llm.errors import DETAILS_TRAILER, NOT_CONNECTED
from arena_llm.tls import open_channel
from arena_llm.v1 import models_pb2
from router.config import Route, ip_version
from router.routing import Headers, Metadata, build_service_config, build_target
from services.common.call import CallRecord
from services.common.errors import BackendDown, BackendError, DeadlineExceeded
from services.common.handlers import SERVICE
from services.common.metrics import meter

#: How gRPC's balancers and resolvers begin a message when there was no connection.
_NEVER_CONNECTED = (
    "connections to all backends failing",
    "ring hash cannot find a connected endpoint",
    *NOT_CONNECTED,
)

#: The codes that gRPC sets for a failed connection, and for a stream whose server died.
_BROKEN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}

#: Seconds in which a call that has chosen this backend has begun: more than the longest
#: ask_timeout_seconds, in which a list of models is read page by page.
_ABOUT_TO_BEGIN = 60.0

#: The operating system's error in the message of a failed connection: "Connection refused".
_CAUSE = re.compile(r"connect: ([\w ]+) \(\d+\)")


#: Sessions whose replica is remembered.
_MOST_SESSIONS = 10_000


def is_one_address(target: str) -> bool:
    """Whether a target is one address, not a host's name, which may have several."""
    return target.startswith("unix:") or ip_version(target) is not None


def channel_options(route: Route) -> Sequence[tuple[str, int | str]]:
    """Return the options of the channel to a route's targets."""
    return (
        *message_options(),
        *ping_options(),
        # A host that drops packets is given up after two seconds.
        *reconnect_options(2_000),
        # Ping between calls too, so that new calls find a live replica.
        ("grpc.keepalive_permit_without_calls", 1),
        # The targets are the operator's own services: http_proxy is for other hosts.
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config", build_service_config(route.policy)),
        # Otherwise all channels of a process share one connection to a target.
        ("grpc.use_local_subchannel_pool", int(route.connections > 1)),
    )


def _open_channel(route: Route, targets: Sequence[str]) -> Any:
    """Any, because the type stubs do not know that (de)serializers may be left out."""
    tls = None if route.tls is None else route.tls.settings
    return open_channel(grpc.aio, build_target(targets), tls, channel_options(route))


def _stamp(route: Route) -> object:
    """Return a value that differs after a certificate of the route has changed."""
    return None if route.tls is None else route.tls.settings.stamp()


class _Wire:
    """A channel to all replicas, its methods, and the number of calls that run over it."""

    def __init__(self, route: Route) -> None:
        self.calls = 0
        self.channel = channel = _open_channel(route, route.targets)
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


class Backend:
    """The replicas behind one prefix. Create it on the event loop that uses it.

    name: the prefix without its underscore, such as "hf".
    targets: the addresses of its replicas, or a host's name with the port.
    addresses: the same as a text.
    """

    def __init__(self, prefix: str, route: Route) -> None:
        self.prefix = prefix
        self.name = prefix.removesuffix("_")
        self.targets = route.targets
        self.addresses = ", ".join(route.targets)
        self._route = route
        self._stamp = _stamp(route)
        #: Whether another replica may answer in place of a lost one.
        self.has_replicas = len(route.targets) > 1 or not is_one_address(route.targets[0])
        #: The replica that has answered the last call of each session, the latest last.
        self._homes: dict[str, str] = {}
        #: The channel to each replica that GetServiceInfo has asked.
        self._replicas: dict[str, Any] = {}
        self._connections = [_Wire(route) for _ in range(route.connections)]

    def call(self, rpc: str, data: bytes, timeout: float | None, metadata: Metadata = ()) -> Any:
        """Start a call of bytes to bytes; the caller must cancel it."""
        headers = Headers(metadata)
        connection = self._connections[0]
        if len(self._connections) > 1:
            connection = min(self._connections, key=attrgetter("calls"))
        call = connection.methods[rpc](data, timeout=timeout, metadata=headers)
        connection.calls += 1
        call.add_done_callback(connection.end)
        return call

    def replica(self, address: str) -> Any:
        """Return the method GetServiceInfo of one replica, as bytes to bytes."""
        if address not in self._replicas:
            self._replicas[address] = _open_channel(self._route, [address])
        return self._replicas[address].unary_unary(f"/{SERVICE.full_name}/GetServiceInfo")

    def note_replica(self, record: CallRecord) -> None:
        """Count the session of a call as moved if another replica has answered the one before."""
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
        if error.code() not in _BROKEN or DETAILS_TRAILER in trailers:
            return None
        text = error.details() or ""
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
        """Whether this is what a route needs, with the certificates that it has now."""
        return route == self._route and _stamp(route) == self._stamp

    async def close_later(self) -> None:
        """Close after the calls that run, and after those that are about to begin."""
        try:
            await asyncio.sleep(_ABOUT_TO_BEGIN)
            while any(connection.calls for connection in self._connections):  # noqa: ASYNC110
                await asyncio.sleep(1.0)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the channels; calls in flight are cancelled."""
        own = (connection.channel for connection in self._connections)
        channels = (*own, *self._replicas.values())
        await asyncio.gather(*(channel.close() for channel in channels))
