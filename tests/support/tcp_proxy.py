"""A TCP proxy on loopback that can make both ends vanish for each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class TcpProxy:
    """Forwards bytes to `target` (host:port) until `swallow`. address: where it listens."""

    def __init__(self, target: str) -> None:
        self.address = ""
        self._host, _, self._port = target.rpartition(":")
        self._swallows = False
        self._writers: set[asyncio.StreamWriter] = set()

    def swallow(self) -> None:
        """Drop all bytes from now on. The connections stay open, as to a machine without power."""
        self._swallows = True

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection(self._host, int(self._port))
        self._writers |= {writer, other_writer}
        await asyncio.gather(self._pump(reader, other_writer), self._pump(other_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(2**16):
                if not self._swallows:
                    writer.write(data)
        if not self._swallows:
            writer.close()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def proxy(target: str) -> AsyncIterator[TcpProxy]:
    """Serve a proxy on a free port."""
    forwarder = TcpProxy(target)
    server = await asyncio.start_server(forwarder.connect, "127.0.0.1", 0)
    forwarder.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield forwarder
    finally:
        server.close()
        forwarder.close()
