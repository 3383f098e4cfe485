"""The replicas of a route: which addresses there are, and which of them serve.

gRPC looks a host's name up again only after it has lost a connection, so it does not see a new
replica. Nor does it see a process that hangs, because that keeps its connections. Therefore the
router looks names up itself, and checks the health of each replica if there are several.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from enum import Enum
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from router.config import Route, is_one_address
from services.common.log import log

#: Seconds between two look-ups of a host's name.
LOOKUP_SECONDS = 1.0
#: Seconds between two health checks of a replica, and seconds to wait for its answer. A replica
#: that hangs gets no new calls after the sum of both.
CHECK_SECONDS, ANSWER_SECONDS = 0.5, 1.5
#: Health checks per second of all replicas of a route together, so that many replicas take only a
#: few percent of the router's core.
_MOST_CHECKS = 100.0

_CHECK = "/grpc.health.v1.Health/Check"
_REQUEST = health_pb2.HealthCheckRequest().SerializeToString()

#: The name server has answered: there is no such name, or it has no address.
_NO_ADDRESS = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


async def look_up(target: str) -> tuple[str, ...] | None:
    """Return the addresses of a host's name with the port; None if no name server answers."""
    host, _, port = target.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return () if error.errno in _NO_ADDRESS else None
    except (OSError, UnicodeError):
        return None
    addresses = set()
    place: Any
    for family, *_, place in found:
        name = f"[{place[0]}]" if family is socket.AF_INET6 else place[0]
        addresses.add(f"{name}:{place[1]}")
    return tuple(sorted(addresses))


class _Health(Enum):
    """What a replica has answered last. UNKNOWN: it was not asked yet, or must be asked again."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    LOST = "lost"


class _Replica:
    """One address: its channel, and the task that asks it for its health."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.health = _Health.UNKNOWN
        self.task: asyncio.Task[None] | None = None


class ReplicaSet:
    """The replicas of one route. Create it on the event loop that uses it.

    open_channel: returns a channel to one address. changed: called when `usable` may have changed.
    addresses: of all replicas; None before the first answer of a name server.
    """

    def __init__(
        self,
        route: Route,
        open_channel: Callable[[str], Any],
        changed: Callable[[], None],
    ) -> None:
        self._route = route
        self._open_channel = open_channel
        self._changed = changed
        self._replicas: dict[str, _Replica] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.addresses: tuple[str, ...] | None = None
        #: Set while a replica serves.
        self.ready = asyncio.Event()
        self._lookups: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for replicas, and to ask them."""
        targets = self._route.targets
        if len(targets) > 1 or is_one_address(targets[0]):
            self._use(tuple(targets))
        else:
            self._lookups = asyncio.create_task(self._look_up_forever(targets[0]))

    @property
    def usable(self) -> tuple[str, ...]:
        """The replicas that take new calls: those that are not lost, or all if all are lost."""
        addresses = self.addresses or ()
        return tuple(a for a in addresses if self._health(a) is not _Health.LOST) or addresses

    def channel(self, address: str) -> Any:
        """Return a channel to one replica, separate from the channels of the calls."""
        return self._replica(address).channel

    def doubt(self) -> None:
        """Note that a replica could not be reached. None counts as serving until asked again."""
        for replica in self._replicas.values():
            if replica.health is _Health.SERVING:
                replica.health = _Health.UNKNOWN
        self.ready.clear()

    async def aclose(self) -> None:
        """Close the channels."""
        if self._lookups is not None:
            self._lookups.cancel()
        for address in tuple(self._replicas):
            self._forget(address)
        await asyncio.gather(*self._closing)

    async def _look_up_forever(self, target: str) -> None:
        while True:
            # Without a name server the last addresses stay in use.
            if (found := await look_up(target)) is not None and found != self.addresses:
                log.info("replicas", target=target, addresses=", ".join(found) or "none")
                self._use(found)
            await asyncio.sleep(LOOKUP_SECONDS)

    def _use(self, addresses: tuple[str, ...]) -> None:
        self.addresses = addresses
        for address in set(self._replicas) - {*addresses}:
            self._forget(address)
        if len(addresses) > 1 or self._route.hold:
            for address in addresses:
                replica = self._replica(address)
                if replica.task is None:
                    replica.task = asyncio.create_task(self._check_forever(address, replica))
        self._note()

    def _replica(self, address: str) -> _Replica:
        if (replica := self._replicas.get(address)) is None:
            replica = self._replicas[address] = _Replica(self._open_channel(address))
        return replica

    def _forget(self, address: str) -> None:
        replica = self._replicas.pop(address)
        if replica.task is not None:
            replica.task.cancel()
        task = asyncio.create_task(replica.channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _health(self, address: str) -> _Health:
        replica = self._replicas.get(address)
        return _Health.UNKNOWN if replica is None else replica.health

    async def _check_forever(self, address: str, replica: _Replica) -> None:
        check = replica.channel.unary_unary(_CHECK)
        while True:
            health = _Health.SERVING if await _serves(check) else _Health.LOST
            if health is not replica.health:
                if _Health.LOST in (health, replica.health):
                    log.info(f"replica {health.value}", address=address)
                replica.health = health
                self._note()
            pause = max(CHECK_SECONDS, len(self._replicas) / _MOST_CHECKS)
            await asyncio.sleep(pause)

    def _note(self) -> None:
        if any(replica.health is _Health.SERVING for replica in self._replicas.values()):
            self.ready.set()
        else:
            self.ready.clear()
        self._changed()


async def _serves(check: Any) -> bool:
    """Whether a replica says in time that it serves, or has no health service."""
    call = check(_REQUEST, timeout=ANSWER_SECONDS)
    try:
        answer = health_pb2.HealthCheckResponse.FromString(await call)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        call.cancel()
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
