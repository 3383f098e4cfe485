"""The HTTP server of the live page."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from arena.live.app import build_app
from arena.live.play import OpenGames
from arena.live.watch import Watcher
from arena_llm import AsyncClient

#: For answers that are being sent when the server stops.
_GRACE_SECONDS = 5


class LiveServer(uvicorn.Server):
    """Serves the page until a signal. Then it ends the streams, which would run on."""

    def __init__(self, watcher: Watcher, client: AsyncClient, host: str) -> None:
        """host: the name or address that it listens on."""
        self._watcher = watcher
        self._games = OpenGames(client)
        app = build_app(watcher, self._games, client, host)
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to watch and to serve."""
        self._watching = asyncio.create_task(self._watcher.run())
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then the connections."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._games.close()
        await super().shutdown(sockets)
