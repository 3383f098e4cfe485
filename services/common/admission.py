"""Bounds of what a process holds at the same time: calls, bytes of their requests, and the calls of
one address."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import unquote

from services.common.config import ServiceConfig
from services.common.errors import Overloaded
from services.common.handlers import Context

#: Seconds after which a refused caller may try again.
_RETRY_SECONDS = 1.0
#: A machine usually has all addresses of a network of this size.
_IPV6_PREFIX = 64


class Admission:
    """Counts the calls in flight, the bytes of their requests, and the calls of each address.

    config: has the bounds; 0 means no limit.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self.calls = 0
        self.bytes = 0
        self.by_address: dict[str, int] = {}
        self.reconfigure(config)

    def reconfigure(self, config: ServiceConfig) -> None:
        """Take the bounds of another configuration."""
        self._max_calls = config.max_calls_in_flight
        self._max_bytes = config.max_bytes_in_flight
        self._max_of_address = config.max_calls_of_address

    def admit(self, data: bytes, context: Context) -> Admitted:
        """Return the place of a request."""
        address = find_address(context.peer()) if self._max_of_address else ""
        return Admitted(self, len(data), address)

    def check(self, size: int, address: str) -> None:
        """Raise Overloaded if there is no place for a request of `size` bytes."""
        if self._max_calls and self.calls >= self._max_calls:
            raise Overloaded(
                f"{self.calls} calls are in flight, which is the limit max_calls_in_flight of the "
                "configuration: try again later",
                retry_after=_RETRY_SECONDS,
            )
        if self._max_bytes and self.calls and self.bytes + size > self._max_bytes:
            raise Overloaded(
                f"the requests in flight have {self.bytes} bytes, and with this one more than the "
                "limit max_bytes_in_flight of the configuration: try again later",
                retry_after=_RETRY_SECONDS,
            )
        if address and self.by_address.get(address, 0) >= self._max_of_address:
            raise Overloaded(
                f"{self.by_address[address]} calls of {address} are in flight, which is the limit "
                "max_calls_of_address of the configuration: try again later",
                retry_after=_RETRY_SECONDS,
            )


class Admitted:
    """The place of one request, for the time of its call. Raises Overloaded if there is none."""

    __slots__ = ("_address", "_admission", "_size")

    def __init__(self, admission: Admission, size: int, address: str) -> None:
        self._admission = admission
        self._size = size
        self._address = address

    def __enter__(self) -> None:
        admission, address = self._admission, self._address
        admission.check(self._size, address)
        admission.calls += 1
        admission.bytes += self._size
        if address:
            admission.by_address[address] = admission.by_address.get(address, 0) + 1

    def __exit__(self, *_: object) -> None:
        admission, address = self._admission, self._address
        admission.calls -= 1
        admission.bytes -= self._size
        if address:
            admission.by_address[address] -= 1
            if not admission.by_address[address]:
                del admission.by_address[address]


@lru_cache(maxsize=4096)
def find_address(peer: str) -> str:
    """Return the address of a caller that gRPC names; "" for one on this machine.

    All addresses of an IPv6 network count as one.
    """
    kind, _, place = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    host = unquote(place.rpartition(":")[0]).strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return ""
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
