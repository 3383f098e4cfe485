"""A name server on loopback."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import cast

_A = 1  # the type of a record with an IPv4 address


class NameServer(asyncio.DatagramProtocol):
    """Speaks DNS (RFC 1035) over UDP.

    addresses: the answer to every question, or that for each name; it may change. asked: questions
    so far. port: where it listens.
    """

    def __init__(self, addresses: Sequence[str] | Mapping[str, Sequence[str]]) -> None:
        self.addresses = addresses
        self.asked = 0
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.asked += 1
        end = data.index(b"\0", 12) + 5  # the name, its type and class
        (kind,) = struct.unpack_from("!H", data, end - 4)
        found = self._find(data[12 : end - 5]) if kind == _A else ()
        # An answer (0x8400: with authority) to one question; 0xC00C points to its name.
        head = data[:2] + struct.pack("!HHHHH", 0x8400, 1, len(found), 0, 0)
        records = b"".join(
            struct.pack("!HHHIH", 0xC00C, _A, 1, 0, 4) + ipaddress.IPv4Address(text).packed
            for text in found
        )
        self._transport.sendto(head + data[12:end] + records, address)

    def _find(self, question: bytes) -> Sequence[str]:
        if not isinstance(self.addresses, Mapping):
            return self.addresses
        labels = []
        while question:
            size = question[0]
            labels.append(question[1 : size + 1].decode())
            question = question[size + 1 :]
        return self.addresses.get(".".join(labels), ())


@asynccontextmanager
async def serve_names(*addresses: str) -> AsyncIterator[NameServer]:
    """Serve on a free port."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: NameServer(addresses), local_addr=("127.0.0.1", 0)
    )
    try:
        yield server
    finally:
        transport.close()
